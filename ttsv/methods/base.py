"""The method protocol: from a frozen model and prompts without labels to an adaptation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ttsv.adaptations import Adaptation
from ttsv.engines.base import Engine
from ttsv.models import LanguageModel
from ttsv.optimization import Optimization, Seeds
from ttsv.records import Prompt

Load = Callable[[], LanguageModel]
"""Gives the model when, and only when, something has to be computed with it."""


@dataclass(frozen=True)
class Setting:
    """What a method is told: options, seeds, and the prompts it may adapt on. ``model_key`` identifies model and arithmetic.

    ``model_key`` and ``prompts_key`` (a hash) are JSON-able and known before the model is loaded.
    """

    optimization: Optimization
    seeds: Seeds
    prompts: Sequence[Prompt]
    model_key: Mapping[str, Any]
    prompts_key: str
    engine: Engine
    engine_key: Mapping[str, Any]
    checkpoint_every: int = 1


@dataclass(frozen=True)
class Adapted:
    """What a method found. ``history`` has a row per update; ``note`` names what went wrong; ``details`` go into the record."""

    adaptation: Adaptation | None
    history: list[dict[str, Any]] = field(default_factory=list)
    note: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """A way to adapt the model; a frozen dataclass whose fields are its configuration.

    ``kind`` is the type of its adaptation, or None; engines refuse kinds they cannot carry out before anything is loaded.
    ``optimizes`` tells whether it runs the recipe's optimisation, which decides what a cell costs.
    """

    name: str
    kind: type | None
    optimizes: bool

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return everything that decides the adaptation, JSON-able: its stage is addressed by this."""
        ...

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Find the adaptation; ``load`` gives the model where it is needed, ``work`` is a folder that survives an interruption."""
        ...
