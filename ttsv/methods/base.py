"""What every method has in common: from a frozen model and prompts without labels to an adaptation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ttsv.adaptations import Adaptation
from ttsv.cost import Work
from ttsv.engines.base import Engine
from ttsv.models import LanguageModel
from ttsv.optimization import Optimization, Seeds
from ttsv.records import Prompt
from ttsv.soft_prompt import initialize

Load = Callable[[], LanguageModel]
"""Gives the model when, and only when, something has to be computed with it."""


@dataclass(frozen=True)
class Setting:
    """What a method is told: options, seeds, and the prompts it may adapt on. ``model_key`` identifies model and arithmetic.

    ``model_key`` and ``prompts_key`` (a hash) are JSON-able and known before the model is loaded. ``source`` is what :attr:`Method.of`
    found, where a method starts from another's result.
    """

    optimization: Optimization
    seeds: Seeds
    prompts: Sequence[Prompt]
    model_key: Mapping[str, Any]
    prompts_key: str
    engine: Engine
    engine_key: Mapping[str, Any]
    checkpoint_every: int = 1
    source: Adaptation | None = None

    def initial_vectors(self, lm: LanguageModel) -> Tensor:
        """Return the vectors (L, d) that the recipe's optimisation starts from."""
        options = self.optimization
        return initialize(
            options.initialization,
            options.length,
            lm,
            self.seeds.initialization,
            self.prompts,
            options.initialization_text,
        )

    def initial_key(self) -> dict[str, Any]:
        """Return what decides :meth:`initial_vectors`; the prompts only where the initialisation looks at them."""
        options = self.optimization
        return {
            "model": dict(self.model_key),
            "initialization": options.initialization,
            "initialization_text": options.initialization_text,
            "length": options.length,
            "seed": self.seeds.initialization,
            "prompts": self.prompts_key if options.initialization == "data_statistics" else None,
        }


@dataclass(frozen=True)
class Adapted:
    """What a method found. ``history`` has a row per update; ``note`` names what went wrong; ``details`` go into the record."""

    adaptation: Adaptation | None
    history: list[dict[str, Any]] = field(default_factory=list)
    note: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Method(ABC):
    """A way to adapt the model; a frozen dataclass whose fields are its configuration."""

    name: str
    kind: ClassVar[type[Adaptation] | None]
    """The type of its adaptation, or None; engines refuse kinds they cannot carry out before anything is loaded."""

    @property
    def of(self) -> "Method | None":
        """The method whose result this one starts from, if any."""
        return None

    def work(self, options: Optimization, problems: int, prompt: float) -> Work:
        """Return the most that its optimisation computes on so many problems, whose prompts have ``prompt`` tokens on average."""
        return Work()

    @abstractmethod
    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return everything that decides the adaptation, JSON-able: its stage is addressed by this."""

    @abstractmethod
    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Find the adaptation; ``load`` gives the model where it is needed, ``work`` is a folder that survives an interruption."""
