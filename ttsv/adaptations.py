"""What changes a frozen model's behaviour, as small tagged kinds. No change at all is ``None`` down the same path.

Each kind is a handful of tensors in one safetensors file. Each says what it places in front of a prompt, what it adds to the last hidden
states, and what it does to the model itself while it is applied; whatever it does to the model is undone afterwards.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ttsv.models import LanguageModel
from ttsv.records import UserError
from ttsv.soft_prompt import SoftPrompt, load_soft_prompt, tensors_digest, write_tensors
from ttsv.store import digest


class Adaptation(ABC):
    """The protocol of all kinds; what a kind does not override changes nothing."""

    FILE: ClassVar[str]

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what the adapted model's outputs depend on: the numbers, not how they were found."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write a safetensors file, atomically."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; a damaged file raises a UserError."""

    @contextmanager
    def applied(self, lm: LanguageModel) -> Iterator[None]:
        """Change the model itself for as long as the context lasts."""
        yield

    def prefix(self, lm: LanguageModel, problem_ids: Sequence[str]) -> Tensor:
        """Return what stands in front of the prompts of these B problems: (L, d), or (B, L, d); L may be 0."""
        return torch.zeros(0, lm.hidden_size)

    def shift(self, problem_ids: Sequence[str]) -> Tensor | None:
        """Return what is added to the last hidden states of these B problems' rows, (B, d), or None."""
        return None


@dataclass(frozen=True)
class EmbeddingPrefix(Adaptation):
    """One soft prompt (L, d) in front of every prompt's input embeddings."""

    soft_prompt: SoftPrompt
    FILE: ClassVar[str] = "vector.safetensors"

    def identity(self) -> dict[str, Any]:
        """Return the hash of the vectors."""
        return {"kind": "embedding_prefix", "content": self.soft_prompt.content_digest()}

    def save(self, path: Path) -> None:
        """Write the vectors with their metadata."""
        self.soft_prompt.save(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the vectors."""
        return cls(load_soft_prompt(path))

    def prefix(self, lm: LanguageModel, problem_ids: Sequence[str]) -> Tensor:
        """Return the vectors (L, d)."""
        return self.soft_prompt.vectors


@dataclass(frozen=True)
class _PerProblem(Adaptation):
    """A tensor of its own for each problem: ``values`` (P, ...) in fp32 on the CPU, in the order of ``problem_ids``."""

    problem_ids: tuple[str, ...]
    values: Tensor

    def identity(self) -> dict[str, Any]:
        """Return the hash of the values and whose they are."""
        content = tensors_digest({"values": self.values})
        return {"kind": type(self).__name__, "problems": digest(list(self.problem_ids)), "content": content}

    def save(self, path: Path) -> None:
        """Write the values with the ids of their problems."""
        _write(path, {"values": self.values}, {"problem_ids": list(self.problem_ids)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the values."""
        tensors, metadata = _read(path)
        return cls(tuple(metadata["problem_ids"]), tensors["values"])

    def of(self, problem_ids: Sequence[str]) -> Tensor:
        """Return the values (B, ...) of these problems.

        Raises:
            UserError: for a problem that has none.
        """
        place = {problem: i for i, problem in enumerate(self.problem_ids)}
        missing = sorted(set(problem_ids) - set(place))
        if missing:
            raise UserError(
                f"{len(missing)} problems have no vector of their own ({', '.join(missing[:3])}, ...): this method adapts to each problem "
                "by itself and says nothing of others; use adapt_on=all and evaluate on the task that it was adapted on"
            )
        return self.values[[place[problem] for problem in problem_ids]]


@dataclass(frozen=True)
class EmbeddingPrefixes(_PerProblem):
    """A soft prompt of its own for each problem: ``values`` (P, L, d)."""

    FILE: ClassVar[str] = "vectors.safetensors"

    def prefix(self, lm: LanguageModel, problem_ids: Sequence[str]) -> Tensor:
        """Return the vectors (B, L, d)."""
        return self.of(problem_ids)


@dataclass(frozen=True)
class HiddenShift(_PerProblem):
    """A vector for each problem, added to the hidden states that the output embeddings see: ``values`` (P, d)."""

    FILE: ClassVar[str] = "shifts.safetensors"

    def shift(self, problem_ids: Sequence[str]) -> Tensor:
        """Return the vectors (B, d)."""
        return self.of(problem_ids)


@dataclass(frozen=True)
class ChangedWeights(Adaptation):
    """Other values for some or all of the model's parameters, by their names in ``named_parameters()``."""

    tensors: Mapping[str, Tensor]
    FILE: ClassVar[str] = "weights.safetensors"

    def identity(self) -> dict[str, Any]:
        """Return the hash of the weights."""
        return {"kind": "changed_weights", "content": tensors_digest(self.tensors)}

    def save(self, path: Path) -> None:
        """Write the weights."""
        _write(path, self.tensors, {})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the weights."""
        return cls(_read(path)[0])

    @contextmanager
    def applied(self, lm: LanguageModel) -> Iterator[None]:
        """Point the model's parameters at these values, and back at their own afterwards; nothing of the model is copied.

        Raises:
            UserError: if a name or a shape is not the model's.
        """
        own = dict(lm.model.named_parameters())
        for name, tensor in self.tensors.items():
            if name not in own or own[name].shape != tensor.shape:
                raise UserError(
                    f"the weights hold {name} {tuple(tensor.shape)}, which {lm.name} has not; they are another model's"
                )
        before = {name: own[name].data for name in self.tensors}
        try:
            for name, tensor in self.tensors.items():
                own[name].data = tensor.to(device=before[name].device, dtype=before[name].dtype)
            yield
        finally:
            for name, tensor in before.items():
                own[name].data = tensor


@dataclass(frozen=True)
class LowRank(Adaptation):
    """A LoRA adapter: ``tensors`` by PEFT's names, ``config`` PEFT's ``LoraConfig`` as plain values (Hu et al. 2022)."""

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    FILE: ClassVar[str] = "adapter.safetensors"

    def identity(self) -> dict[str, Any]:
        """Return the hash of the adapter's weights, and how they are used."""
        return {"kind": "low_rank", "content": tensors_digest(self.tensors), "config": dict(self.config)}

    def save(self, path: Path) -> None:
        """Write the adapter's weights with its config."""
        _write(path, self.tensors, {"config": dict(self.config)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the adapter."""
        tensors, metadata = _read(path)
        return cls(tensors, metadata["config"])

    @contextmanager
    def applied(self, lm: LanguageModel) -> Iterator[None]:
        """Put the adapter's layers into the model, and take them out again afterwards."""
        import peft

        wrapped = peft.get_peft_model(lm.model, peft.LoraConfig(**self.config), autocast_adapter_dtype=False)
        try:
            if self.tensors:
                peft.set_peft_model_state_dict(wrapped, dict(self.tensors))
            wrapped.requires_grad_(False)
            wrapped.eval()
            yield
        finally:
            wrapped.unload()


def peft_name(parameter: str) -> str:
    """Return PEFT's name in an adapter file for a parameter of the model that it has put layers into."""
    return f"base_model.model.{parameter.replace('.default.', '.')}"


KINDS: dict[str, type[Adaptation]] = {
    kind.__name__: kind for kind in (EmbeddingPrefix, EmbeddingPrefixes, HiddenShift, ChangedWeights, LowRank)
}
"""The kinds by the names that records use."""


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    write_tensors(path, tensors, {"ttsv": json.dumps(dict(metadata), sort_keys=True)})


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            # Copied, since kernels may add up in another order where a tensor lies as a file's bytes happen to.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, json.loads(file.metadata()["ttsv"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a readable adaptation ({error}); delete its folder and run the command again"
        ) from error
