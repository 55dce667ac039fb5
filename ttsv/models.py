"""A frozen language model with its tokenizer, end tokens and identity."""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import PicklingError
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.cache_utils import DynamicLayer

from ttsv import ranks
from ttsv.records import UserError
from ttsv.weights import Dimensions, ModelConfig, fetch, fingerprint

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


@dataclass
class LanguageModel:
    """A causal language model whose weights never get gradients.

    ``eos_ids`` are the model's own end-of-sequence ids (generation config, else config); ``end_ids`` adds those of the tokenizer, of
    the chat template's end of turn and of the model config: any of them ends a response.

    Pickled it is its ``source``: another process loads the same weights from there, once.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    extra_end_tokens: tuple[str, ...] = ()
    source: "Source | None" = None
    replayable: bool = True
    """Whether a decoding step can be captured as a CUDA graph; it is until a capture has failed."""

    def __post_init__(self) -> None:
        self.model.eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source is None:
            raise PicklingError(f"{self.name} was not loaded from files, so no other process can load it")
        return held, (self.source, self.dtype, torch.device(self.device.type))

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.token_embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.token_embeddings.dtype

    @property
    def token_embeddings(self) -> Tensor:
        """The input embedding table (vocabulary, d)."""
        table: Tensor = self.model.get_input_embeddings().weight
        return table

    @property
    def generation_config(self) -> GenerationConfig:
        """The model's own defaults for generation."""
        config: GenerationConfig = self.model.generation_config
        return config

    @property
    def hidden_size(self) -> int:
        """The width d of an input embedding."""
        return int(self.token_embeddings.shape[1])

    @property
    def tokenizer_size(self) -> int:
        """The number of token ids the tokenizer knows; the table may have unused rows beyond."""
        return len(self.tokenizer)

    @property
    def max_positions(self) -> int | None:
        """The context length the model was configured for, or None where it does not say."""
        found = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(found) if found else None

    @cached_property
    def attends_everywhere(self) -> bool:
        """Whether each token may attend to all before it in every layer, so that columns nothing attends to can be left out."""
        return all(type(layer) is DynamicLayer for layer in DynamicCache(config=self.model.config).layers)

    @property
    def takes_masks(self) -> bool:
        """Whether a step can be given its attention as a mask (B, 1, 1, T): PyTorch's attention, positions from rotation alone."""
        config = self.model.config.get_text_config()
        rotary = bool(getattr(config, "rope_parameters", None)) and not getattr(config, "alibi", False)
        return rotary and config._attn_implementation == "sdpa"

    @cached_property
    def pad_token_id(self) -> int:
        """The id that fills up short rows; its choice never shows in the ``corrected`` recipe."""
        for candidate in (
            self.tokenizer.pad_token_id,
            self.model.config.pad_token_id,
            self.tokenizer.eos_token_id,
            *sorted(self.eos_ids),
        ):
            if candidate is not None:
                return int(candidate)
        return 0

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """The model's own end-of-sequence ids."""
        own = _as_set(self.generation_config.eos_token_id)
        return own or _as_set(self.model.config.eos_token_id)

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Every id that ends a response."""
        extra = {self.tokenizer.convert_tokens_to_ids(token) for token in self.extra_end_tokens}
        if None in extra or (
            self.tokenizer.unk_token_id in extra and self.tokenizer.unk_token not in self.extra_end_tokens
        ):
            raise UserError(
                f"model.end_tokens={list(self.extra_end_tokens)} holds a token that {self.name}'s tokenizer does not know"
            )
        found = (
            self.eos_ids
            | _as_set(self.model.config.eos_token_id)
            | _as_set(self.tokenizer.eos_token_id)
            | frozenset(extra)
        )
        found |= _end_of_turn(self.tokenizer)
        if not found:
            raise UserError(f"{self.name} names no end token anywhere; give one with model.end_tokens=['<...>']")
        return found

    def embed(self, ids: Tensor) -> Tensor:
        """Return the input embeddings (..., d) of token ids."""
        embedded: Tensor = self.model.get_input_embeddings()(ids)
        return embedded

    def decode(self, ids: list[int] | tuple[int, ...], *, skip_special: bool = True) -> str:
        """Return the text of token ids."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=skip_special))


@dataclass(frozen=True)
class Source:
    """A model on disk, known before its weights are loaded: folder, identity and tokenizer."""

    config: ModelConfig
    folder: Path
    fingerprint: str

    def __reduce__(self) -> tuple[Any, ...]:
        return Source, (self.config, self.folder, self.fingerprint)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer."""
        return _loaded(self, lambda: AutoTokenizer.from_pretrained(self.folder, local_files_only=True))

    @cached_property
    def generation_config(self) -> GenerationConfig:
        """The model's own defaults for generation; the library's where the model states none."""
        if not (self.folder / "generation_config.json").is_file():
            return GenerationConfig()
        return _loaded(self, lambda: GenerationConfig.from_pretrained(self.folder, local_files_only=True))

    def load(self, dtype: torch.dtype, device: torch.device) -> LanguageModel:
        """Load the weights, from safetensors only and without running any code that comes with them.

        Raises:
            UserError: if the architecture is not in transformers, or the files do not fit it.
        """
        model = _loaded(
            self,
            lambda: AutoModelForCausalLM.from_pretrained(
                self.folder,
                dtype=dtype,
                attn_implementation=self.config.attn_implementation,
                use_safetensors=True,
                local_files_only=True,
            ),
        )
        if device.type == "cuda":
            # cuDNN's attention builds a plan for each new shape: 50 ms a step on an H100 where a cache grows, against 20 without.
            torch.backends.cuda.enable_cudnn_sdp(False)
        end_tokens = tuple(self.config.end_tokens)
        return LanguageModel(self.config.name, model.to(device), self.tokenizer, self.fingerprint, end_tokens, self)


_held: dict[tuple[Source, torch.dtype, torch.device], LanguageModel] = {}


def held(source: Source, dtype: torch.dtype, device: torch.device) -> LanguageModel:
    """Return a model, loaded where it is not in memory; at most one is, also while another is loaded in its place."""
    wanted = (source, dtype, device)
    if wanted not in _held:
        _held.clear()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        _held[wanted] = source.load(dtype, device)
    return _held[wanted]


def open_source(config: ModelConfig) -> Source:
    """Find, download or convert a model's files and fingerprint them; see :func:`ttsv.weights.fetch` for what is raised."""
    folder = fetch(config)
    return Source(config, folder, fingerprint(folder))


def _loaded(source: Source, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (ValueError, KeyError, ImportError, OSError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"transformers cannot load {source.config.name} from {source.folder}: {error}. Code shipped with a model is never run."
        ) from error


def resolve_device(name: str) -> torch.device:
    """Return the device for ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device={name!r} is unknown; expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={name} is not supported; expected auto, cpu, cuda or cuda:N")
    if device.index is not None and ranks.size() > 1:
        raise UserError(
            f"device={name} names one card, but this run has {ranks.size()} processes with a card each; use device=cuda"
        )
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"device={name} was asked for, but torch sees no CUDA device here; use device=auto or device=cpu"
        )
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype for a name, or for ``auto`` the fastest that is safe: bf16 on CUDA and on CPUs that compute in it, else fp32."""
    if name == "auto":
        return torch.bfloat16 if computes_in(torch.bfloat16, device) else torch.float32
    if name not in DTYPES:
        raise UserError(f"dtype={name!r} is unknown; expected auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def computes_in(dtype: torch.dtype, device: torch.device) -> bool:
    """Tell whether a device multiplies numbers of a dtype by instructions of its own; what has none is many times slower than fp32."""
    needed = {torch.bfloat16: "avx512_bf16", torch.float16: "avx512_fp16"}.get(dtype)
    return device.type == "cuda" or needed is None or bool(torch.cpu.get_capabilities().get(needed))


def dimensions_of(config: PretrainedConfig) -> Dimensions:
    """Return a model's sizes from its config."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return Dimensions(
        text.hidden_size,
        text.intermediate_size,
        text.num_hidden_layers,
        heads,
        getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        text.vocab_size,
        bool(getattr(config, "tie_word_embeddings", False)),
    )


def _as_set(ids: int | list[int] | None) -> frozenset[int]:
    if ids is None:
        return frozenset()
    return frozenset([ids] if isinstance(ids, int) else ids)


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the special token that the chat template writes after an assistant's turn, if it writes one."""
    if not tokenizer.chat_template:
        return frozenset()
    mark = "ANSWER"
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": mark}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception as error:  # a template is a program of the model's authors, and raises what they chose
        log.warning("the chat template refuses a question and an answer (%s); its end of turn stays unknown", error)
        return frozenset()
    if mark not in text:
        return frozenset()
    ids = tokenizer(text.rpartition(mark)[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return frozenset(ids[:1]) if ids and ids[0] in special else frozenset()
