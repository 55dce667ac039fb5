"""A cell: everything that one run is made of, and what its record and its place in a table say of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ttsv import neutral
from ttsv.engines.base import Engine
from ttsv.evaluation import Evaluation
from ttsv.grading import configuration
from ttsv.methods.base import Method
from ttsv.optimization import Optimization, Seeds
from ttsv.prompts import Template
from ttsv.records import Problem
from ttsv.scoring.base import Grader
from ttsv.store import digest
from ttsv.tasks import Task
from ttsv.weights import ModelConfig

CONDITIONS = (
    "model.end_tokens",
    "model.attn_implementation",
    "model.thinking",
    "model.revision",
    "prompt.",
    "task.",
    "recipe.evaluation.",
    "recipe.dtype.",
    "scale.evaluation_tokens",
    "grader.",
    "limit_seed",
    "split_seed",
)
"""Overrides that cells of one table share; they stand in its title."""

VARIANTS = (
    "recipe.optimization.",
    "scale.",
    "method.",
    "engine.",
    "seeds.",
    "vector=",
    "at_update=",
    "ladder=",
    "adapt_task.",
)
"""Overrides that tell runs of one method apart; they stand beside its name."""

UNSEEN = tuple(f"recipe.optimization.{name}=" for name in neutral.UNSEEN)
"""Overrides that change no result and stand nowhere."""

QUOTES = "'\""

OF_NONE = ("engine.", "seeds.evaluation")
"""Those of them that tell runs of the model alone apart."""


@dataclass(frozen=True)
class Cell:
    """Typed components, built once. ``adapt_task`` is None where the method adapts on the problems it is evaluated on.

    ``names`` are the configs chosen in each group, ``overrides`` the words of the command line, ``plain`` the whole config as plain values.
    """

    study: str
    model: ModelConfig
    task: Task
    adapt_task: Task | None
    prompt: Template
    method: Method
    optimization: Optimization
    evaluation: Evaluation
    engine: Engine
    grader: Grader
    second_grader: Grader
    seeds: Seeds
    names: dict[str, str]
    overrides: tuple[str, ...]
    plain: dict[str, Any]

    @property
    def engine_config(self) -> dict[str, Any]:
        """The engine's config without what cannot show in a result."""
        return {name: value for name, value in self.plain["engine"].items() if name not in self.engine.incidental}

    def facts(self, problems: list[Problem], weights: str, device: torch.device) -> dict[str, Any]:
        """Return what tables are grouped and labelled by; hashes stand for what has no short name."""
        plain = self.plain
        adapts = self.method.kind is not None
        # Runs that differ in their seeds alone stand in one table, as seeds of one method.
        evaluation = {name: value for name, value in plain["recipe"]["evaluation"].items() if name != "seed"}
        shaped = [
            neutral.deciding(plain["recipe"]["optimization"]),
            self.engine_config,
            plain["method"],
            plain["at_update"],
        ]
        return {
            "model": self.model.name,
            **{group: self.names[group] for group in ("task", "prompt", "recipe", "scale", "grader")},
            "conditions": self._overrides(CONDITIONS),
            # What only shapes a vector says nothing of the model alone.
            "variant": self._variant() if adapts else self._overrides(OF_NONE),
            "adapt_task": self.names["adapt_task"] if adapts else "",
            "at_update": plain["at_update"] if adapts else None,
            "aggregate": plain["aggregate"],
            "method": self.method.name,
            "seed": plain["seed"],
            "limit": plain["limit"],
            "adapt_on": plain["adapt_on"],
            "options": digest(shaped)[:16] if adapts else "",
            "weights": weights[:16],
            "model_config": digest(plain["model"])[:16],
            "engine_config": digest(self.engine_config)[:16],
            "adapt_task_config": digest(plain.get("adapt_task"))[:16] if adapts else "",
            "seeds": digest(plain["seeds"])[:16],
            "device": device.type,
            "grader_config": digest(configuration(self.grader))[:16],
            "prompt_config": digest(plain["prompt"])[:16],
            "problems": digest([[p.id, p.question, p.gold] for p in problems])[:16],
            "evaluation": digest([evaluation, plain["recipe"]["dtype"]])[:16],
        }

    def _variant(self) -> str:
        words = _short(self._overrides(VARIANTS, but=CONDITIONS))
        return " ".join(filter(None, [words, f"adapted on {self.names['adapt_task']}" if self.adapt_task else ""]))

    def _overrides(self, prefixes: tuple[str, ...], but: tuple[str, ...] = ()) -> str:
        """Return the overrides of the command line below these keys, in a fixed order; those below ``but`` are left out."""
        shown = [o for o in self.overrides if not o.lstrip("+").startswith(UNSEEN)]
        chosen = [o for o in shown if o.lstrip("+").startswith(prefixes)]
        return " ".join(sorted(o for o in chosen if not (but and o.lstrip("+").startswith(but))))


def _short(words: str) -> str:
    """Return overrides with a vector's file by its name alone: folders of one machine say nothing on another."""
    return " ".join(
        f"vector={Path(word[7:].strip(QUOTES)).name}" if word.startswith("vector=") else word for word in words.split()
    )
