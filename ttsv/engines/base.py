"""The engine protocol: requests in, completions out, under explicit decoding rules."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from transformers import GenerationConfig

from ttsv.adaptations import Adaptation
from ttsv.models import LanguageModel
from ttsv.placement import Order
from ttsv.records import Completion, Prompt, UserError
from ttsv.sampling import Sampling

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stopping:
    """When a row's response ends.

    ``tokens``: ``any_end_token`` stops a row at any id of ``LanguageModel.end_ids``; ``eos`` at the model's own eos only (release).
    ``batch_strings`` (release): a whole batch ends once each of its rows holds one of these strings; until then a row writes on after
    its own, and in the end only the text from the last listed string on is cut off. Empty: each row stops by itself.
    """

    tokens: Literal["any_end_token", "eos"] = "any_end_token"
    batch_strings: tuple[str, ...] = ()

    def ids(self, lm: LanguageModel) -> frozenset[int]:
        """Return the token ids that end a row."""
        return lm.end_ids if self.tokens == "any_end_token" else lm.eos_ids


@dataclass(frozen=True)
class Decoding:
    """Everything that decides what is generated, besides model, prompts and adaptation.

    ``batch_size`` rows are decoded at once; with ``sort_by_length`` prompts of like length share a batch. Both may flip near-ties of
    floating-point order, and with ``Stopping.batch_strings`` they matter in earnest, so both are part of a result's key.
    """

    sampling: Sampling
    stopping: Stopping = Stopping()
    order: Order = "padding_prefix_prompt"
    batch_size: int = 32
    sort_by_length: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size} is out of range; expected at least 1")


@dataclass(frozen=True)
class Request:
    """One row to generate: ``stream`` names its random numbers, so they depend on nothing else."""

    prompt: Prompt
    sample: int
    stream: tuple[int | str, ...]


NOT_FOLLOWED = ("min_p", "typical_p", "no_repeat_ngram_size", "suppress_tokens", "begin_suppress_tokens", "num_beams")
"""Fields of a generation config that would change what is generated and that decoding here does not know."""

Progress = Callable[[int], object]
"""Told of each slot of the token budget (rows x max_new_tokens) that is used up or freed by a row that ended."""


def batches(requests: Sequence[Request], decoding: Decoding) -> list[list[int]]:
    """Return which requests are decoded together, by their indices; the longest prompts come first when sorted."""
    order = list(range(len(requests)))
    if decoding.sort_by_length:
        order.sort(key=lambda i: -len(requests[i].prompt.token_ids))
    return [order[start : start + decoding.batch_size] for start in range(0, len(order), decoding.batch_size)]


class Engine(Protocol):
    """Generates completions. Implementations are frozen dataclasses whose fields are their whole configuration.

    ``supports`` are the kinds of adaptation that it can carry out; ``incidental`` the fields that say how it runs on this machine and not
    what is generated, so that results do not depend on them.
    """

    name: str
    supports: frozenset[type]
    incidental: frozenset[str]

    def check(self, decoding: Decoding) -> None:
        """Raise a UserError if it is not installed or cannot follow these rules; nothing is loaded."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Return what it generated with beside the packages of this environment, JSON-able; known once it has generated."""
        ...

    def generate(
        self,
        lm: LanguageModel,
        requests: Sequence[Request],
        adaptation: Adaptation | None,
        decoding: Decoding,
        progress: Progress = lambda slots: None,
    ) -> Iterator[dict[int, Completion]]:
        """Yield finished batches as {index in ``requests``: completion}, each index once."""
        ...


def refuse_unsupported(engine: Engine, adaptation_kind: type | None) -> None:
    """Refuse an adaptation that an engine cannot carry out, before anything is loaded.

    Raises:
        UserError: naming the engine, the kind and the kinds it supports.
    """
    if adaptation_kind is not None and adaptation_kind not in engine.supports:
        known = ", ".join(sorted(kind.__name__ for kind in engine.supports))
        raise UserError(
            f"engine={engine.name} cannot generate with {adaptation_kind.__name__}; it supports {known}. Use engine=hf"
        )


def resolve(sampling: Sampling, config: GenerationConfig) -> Sampling:
    """Return ``sampling`` with ``top_k`` -1 replaced by what the model's generation config says, or 50 (see :class:`Sampling`)."""
    if sampling.top_k != -1:
        return sampling
    own = getattr(config, "top_k", None)
    return Sampling(
        sampling.max_new_tokens,
        sampling.temperature,
        sampling.top_p,
        50 if own is None else int(own),
        sampling.repetition_penalty,
    )


def own_sampling(config: GenerationConfig, max_new_tokens: int) -> Sampling:
    """Return what ``generate(max_new_tokens=...)`` alone would do: the model's generation config, library defaults where it is silent."""
    changed = config.to_diff_dict()
    ignored = sorted(name for name in NOT_FOLLOWED if changed.get(name))
    if ignored or changed.get("repetition_penalty", 1.0) != 1.0:
        log.warning(
            "the model's generation config sets %s, which are not followed; its repetition penalty, if any, is applied to new tokens only",
            ", ".join(ignored) or "a repetition penalty",
        )
    if not getattr(config, "do_sample", False):
        return Sampling(max_new_tokens, repetition_penalty=getattr(config, "repetition_penalty", None) or 1.0)
    values = {name: getattr(config, name, None) for name in ("temperature", "top_p", "top_k", "repetition_penalty")}
    return Sampling(
        max_new_tokens,
        temperature=1.0 if values["temperature"] is None else float(values["temperature"]),
        top_p=1.0 if values["top_p"] is None else float(values["top_p"]),
        top_k=50 if values["top_k"] is None else int(values["top_k"]),
        repetition_penalty=float(values["repetition_penalty"] or 1.0),
    )
