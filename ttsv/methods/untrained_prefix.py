"""The initial vector without a single update: how much of a gain is there before anything is learned."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ttsv.adaptations import EmbeddingPrefix
from ttsv.methods.base import Adapted, Load, Method, Setting
from ttsv.soft_prompt import SoftPrompt
from ttsv.store import digest


@dataclass(frozen=True)
class UntrainedPrefix(Method):
    """The vector that ``ttsv`` starts from, with the same initialisation and seed."""

    name: str = "untrained_prefix"
    kind: ClassVar[type[EmbeddingPrefix]] = EmbeddingPrefix

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return initialisation, length, seed and model."""
        return setting.initial_key()

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Return the initial vector."""
        metadata = {
            "method": self.name,
            "seed": setting.seeds.initialization,
            "initialization": setting.optimization.initialization,
        }
        return Adapted(EmbeddingPrefix(SoftPrompt(setting.initial_vectors(load()), metadata)))


@dataclass(frozen=True)
class RandomPrefix(UntrainedPrefix):
    """Another draw of the same initialisation, number ``draw``, which nothing has ever been trained from: one of a distribution."""

    draw: int = 1
    name: str = "random_prefix"

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return initialisation, length, this draw's own seed and model."""
        return self._redrawn(setting).initial_key()

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Return the draw."""
        return super().adapt(load, self._redrawn(setting), work)

    def _redrawn(self, setting: Setting) -> Setting:
        own = int(digest(["random_prefix", setting.seeds.initialization, self.draw])[:8], 16)
        return replace(setting, seeds=replace(setting.seeds, initialization=own))
