"""Prefixes made from another's vector: what is left of an effect when the rows are shuffled, or only their norms are kept.

The vector is that of ``ttsv`` under the same recipe and seed, or the one in a file.
"""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ttsv.adaptations import EmbeddingPrefix
from ttsv.methods.base import Adapted, Load, Method, Setting
from ttsv.methods.released_vector import ReleasedVector
from ttsv.methods.ttsv import TTSV
from ttsv.records import UserError
from ttsv.sampling import permutation
from ttsv.soft_prompt import SoftPrompt
from ttsv.store import digest


@dataclass(frozen=True)
class _Transformed(Method):
    """A function of the vector of ``ttsv``, or of the file at ``path``, under the initialisation's seed."""

    path: str | None = None
    name: str = ""
    kind: ClassVar[type[EmbeddingPrefix]] = EmbeddingPrefix

    @property
    def of(self) -> Method:
        """The method that finds the vector."""
        return ReleasedVector(self.path) if self.path else TTSV()

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return what decides the vector, and the seed."""
        return {"of": self.of.name, "seed": setting.seeds.initialization, **self.of.determined_by(setting)}

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Return the changed vector."""
        assert isinstance(setting.source, EmbeddingPrefix)
        changed = self.transform(setting.source.soft_prompt.vectors, load, setting)
        return Adapted(EmbeddingPrefix(SoftPrompt(changed, {"method": self.name, "of": self.of.name})))

    def _random_rows(self, vectors: Tensor, setting: Setting, norms: Tensor) -> Tensor:
        """Return rows (L, d) of these norms (L, 1) and uniform direction, from a stream that no initialisation draws from."""
        own = int(digest([self.name, setting.seeds.initialization])[:8], 16)
        rows = torch.empty_like(vectors).normal_(generator=torch.Generator().manual_seed(own))
        scaled: Tensor = rows * (norms / rows.norm(dim=1, keepdim=True))
        return scaled

    @abstractmethod
    def transform(self, vectors: Tensor, load: Load, setting: Setting) -> Tensor:
        """Return other vectors (L, d) for these (L, d)."""


@dataclass(frozen=True)
class ShuffledPrefix(_Transformed):
    """The rows in another order; no row is new."""

    name: str = "shuffled_prefix"

    def transform(self, vectors: Tensor, load: Load, setting: Setting) -> Tensor:
        """Return the rows permuted; with one row there is nothing to permute, which is refused."""
        if len(vectors) < 2:
            raise UserError(
                f"method={self.name} needs at least 2 rows to permute, got {len(vectors)}; set a greater length"
            )
        seed, attempt, same = setting.seeds.initialization, 0, list(range(len(vectors)))
        while (order := permutation(len(vectors), "shuffled", seed, attempt)) == same:
            attempt += 1
        return vectors[order]


@dataclass(frozen=True)
class NormMatchedPrefix(_Transformed):
    """Rows of random direction, each of the norm that the vector's row has."""

    name: str = "norm_matched_prefix"

    def transform(self, vectors: Tensor, load: Load, setting: Setting) -> Tensor:
        """Return the rows."""
        return self._random_rows(vectors, setting, vectors.norm(dim=1, keepdim=True))


@dataclass(frozen=True)
class RandomUpdates(_Transformed):
    """The initial vector, moved as far in each row as the optimisation moved it, but in a random direction."""

    name: str = "random_updates"

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return what decides the vector and the initial one, and the seed."""
        return super().determined_by(setting) | {"initial": setting.initial_key()}

    def transform(self, vectors: Tensor, load: Load, setting: Setting) -> Tensor:
        """Return the moved rows."""
        initial = setting.initial_vectors(load())
        if initial.shape != vectors.shape:
            raise UserError(
                f"method={self.name} compares with the initial vector {tuple(initial.shape)}, but the file holds {tuple(vectors.shape)}; "
                "set recipe.optimization.length to the file's"
            )
        return initial + self._random_rows(vectors, setting, (vectors - initial).norm(dim=1, keepdim=True))
