"""A test double of vLLM: just the names that ttsv.engines.vllm_worker and vllm_sampling use, over a transformers model.

It stands for vLLM's interface alone, so that the protocol, the requests and the drawing of tokens are tested where vLLM is not installed.
It says nothing of vLLM's own numbers. Each step computes every unfinished row anew; a row changes its place when an earlier one ends, and
the first step of a row is computed twice, as when vLLM has not read all of a prompt yet.
"""

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

__version__ = "a double"
VllmConfig = object
RequestOutput = SimpleNamespace
current_platform = SimpleNamespace(device_type="cpu")


class EngineArgs(SimpleNamespace):
    """Whatever it is called with."""


@dataclass
class SamplingParams:
    """What the worker sets."""

    temperature: float
    max_tokens: int
    stop_token_ids: list[int]
    ignore_eos: bool
    detokenize: bool
    logprobs: int
    extra_args: dict[str, Any]


class LogitsProcessor:
    """The base class."""


BatchUpdate = list


def process_dict_updates(rows: dict[int, Any], update: Any, make: Any) -> None:
    """Put the rows of an update in the place of all others."""
    if update is not None:
        rows.clear()
        rows.update({i: make(params, None, written) for i, (params, written) in enumerate(update)})


def embeds_input(embeddings: torch.Tensor) -> torch.Tensor:
    """The embeddings."""
    return embeddings


@dataclass
class _Running:
    request_id: str
    embeddings: torch.Tensor
    params: SamplingParams
    written: list[int] = field(default_factory=list)
    reported: float = 0.0
    read: bool = False


class LLMEngine:
    """add_request and step."""

    def __init__(self, arguments: EngineArgs) -> None:
        assert arguments.enable_prompt_embeds
        assert not arguments.enable_prefix_caching
        assert arguments.logprobs_mode == "processed_logits"
        if arguments.max_num_seqs == 13:
            raise ValueError("thirteen rows at once")
        self.model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype))
        self.length = arguments.max_model_len
        module, name = arguments.logits_processors[0].split(":")
        self.processor = getattr(__import__(module, fromlist=[name]), name)(None, torch.device("cpu"), False)
        self.running: list[_Running] = []

    @classmethod
    def from_engine_args(cls, arguments: EngineArgs) -> "LLMEngine":
        """Load the model."""
        return cls(arguments)

    def add_request(self, request_id: str, embeddings: torch.Tensor, params: SamplingParams) -> None:
        """Take a row in."""
        assert len(embeddings) + params.max_tokens <= self.length
        self.running.append(_Running(request_id, embeddings, params))

    def has_unfinished_requests(self) -> bool:
        """Whether a row still writes."""
        return bool(self.running)

    @torch.inference_mode()
    def step(self) -> list[Any]:
        """Write a token of each row."""
        self.processor.update_state([(row.params, row.written) for row in self.running])
        processed = self.processor.apply(torch.stack([self._logits(row) for row in self.running]))
        for row, logits in zip(self.running, processed, strict=True):
            if row.read:
                row.written.append(int(logits.argmax()))
                row.reported += float(logits.max())
            row.read = True
        ended = [r for r in self.running if r.written and self._ended(r)]
        self.running = [r for r in self.running if r not in ended]
        return [
            SimpleNamespace(
                request_id=row.request_id,
                finished=True,
                outputs=[SimpleNamespace(token_ids=row.written, cumulative_logprob=row.reported)],
            )
            for row in ended
        ]

    def _ended(self, row: _Running) -> bool:
        return row.written[-1] in row.params.stop_token_ids or len(row.written) == row.params.max_tokens

    def _logits(self, row: _Running) -> torch.Tensor:
        written = self.model.get_input_embeddings()(torch.tensor(row.written, dtype=torch.long))
        embeddings = torch.cat([row.embeddings, written])[None]
        found: torch.Tensor = self.model(inputs_embeds=embeddings).logits[0, -1].float()
        return found


def _module(name: str, **content: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module


_module("vllm.inputs", embeds_input=embeds_input)
_module("vllm.outputs", RequestOutput=RequestOutput)
_module("vllm.platforms", current_platform=current_platform)
_module("vllm.config", VllmConfig=VllmConfig)
_module("vllm.v1")
_module("vllm.v1.sample")
_module(
    "vllm.v1.sample.logits_processor",
    BatchUpdate=BatchUpdate,
    LogitsProcessor=LogitsProcessor,
    process_dict_updates=process_dict_updates,
)
