"""How many answers flip for no reason: the same vector, evaluated under other batch sizes, dtypes and engines.

Runs are compared in pairs that share problems, prompt, adaptation, decoding rules and evaluation seed, and differ in nothing but
``recipe.evaluation.decoding.batch_size``, ``sort_by_length``, ``recipe.dtype.evaluate``, the engine or the device. Greedy decoding would
give the same text in exact arithmetic; what differs is rounding.
"""

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from ttsv.stats import clopper_pearson, mcnemar
from ttsv.study import Cell, apart

SAME = (
    "model",
    "task",
    "prompt",
    "prompt_config",
    "scale",
    "grader",
    "limit",
    "problems",
    "weights",
    "grader_config",
    "method",
    "at_update",
)
VARIED = ("batch_size", "sort_by_length")
"""Fields of ``recipe.evaluation.decoding`` that may differ within a pair."""


@dataclass(frozen=True)
class Robustness:
    """The pairs of one vector: ``frame`` has a row per pair; ``flips``, ``possible`` and ``floor`` are of the pair that differs most."""

    title: str
    problems: int
    frame: pd.DataFrame

    @property
    def flips(self) -> int:
        """The largest number of verdicts that flipped between two settings."""
        return int((self.frame["wrong_to_right"] + self.frame["right_to_wrong"]).max())

    @property
    def possible(self) -> float:
        """How many verdicts may flip on other problems: the upper 95 % limit of Clopper and Pearson, above 0 where none flipped."""
        return self.problems * float(clopper_pearson(self.flips, self.problems, confidence=0.9)[1])

    @property
    def floor(self) -> float:
        """The noise floor in points: two standard deviations of a difference made of as many possible flips, as likely up as down."""
        return 100 * 2 * math.sqrt(self.possible) / self.problems

    def sentence(self) -> str:
        """Say what the floor is and what follows."""
        return (
            f"Up to {self.flips} of {self.problems} verdicts flip ({100 * self.flips / self.problems:.1f} %), "
            "though nothing but the arithmetic "
            f"differs; on other problems it may be {self.possible:.1f} of so many (upper 95 % limit). If so many flip at random, two runs "
            f"differ by less than {self.floor:.1f} points in about 95 % of cases: smaller differences "
            "between runs of unlike settings are not called effects."
        )


def robustness(cells: Sequence[Cell]) -> list[Robustness]:
    """Return what is found for each vector (the model alone among them) that was evaluated in several ways."""
    found = []
    for alike in apart(cells, _key):
        of_setting = [same[0] for same in apart(alike, _setting)]
        if len(of_setting) > 1:
            pairs = pd.DataFrame([_pair(*pair) for pair in combinations(of_setting, 2)])
            first = of_setting[0]
            title = f"{first.label}, seed {first.seed}: {first.facts['model']} on {first.facts['task']}, prompt {first.facts['prompt']}"
            found.append(Robustness(title, first.samples["problem_id"].nunique(), pairs))
    return found


def _key(cell: Cell) -> list[Any]:
    evaluation = copy.deepcopy(dict(cell.setting("recipe.evaluation") or {}))
    decoding = {name: value for name, value in dict(evaluation.pop("decoding", {})).items() if name not in VARIED}
    adapted = cell.stages["adapt"].name if "adapt" in cell.stages else None
    return [[cell.facts[name] for name in SAME if name in cell.facts], adapted, evaluation, decoding, cell.aggregate]


def _setting(cell: Cell) -> dict[str, Any]:
    """Return what may differ within a pair."""
    engine = cell.setting("engine") or {}
    decoding = cell.setting("recipe.evaluation.decoding") or {}
    return {
        "engine": str(engine.get("_target_", "")).rpartition(".")[2],
        "device": cell.facts.get("device"),
        "dtype": cell.setting("recipe.dtype.evaluate"),
        **{name: decoding.get(name) for name in VARIED},
    }


def _pair(first: Cell, second: Cell) -> dict[str, Any]:
    one, other = _setting(first), _setting(second)
    differing = [name for name in one if one[name] != other[name]]

    def words(setting: dict[str, Any]) -> str:
        return ", ".join(f"{name} {setting[name]}" for name in differing)

    keys = ["problem_id", "sample"]
    both = first.samples.merge(second.samples, on=keys, suffixes=("_first", "_second"))
    row: dict[str, Any] = {"first": words(one), "second": words(other), "responses": len(both)}
    for column in ("text", "answer"):
        if f"{column}_first" in both:
            same = both[f"{column}_first"].map(json.dumps) == both[f"{column}_second"].map(json.dumps)
            row[f"{column}s_differ"] = int((~same).sum())
    tested = mcnemar(first.scores("all"), second.scores("all"))
    difference = 100 * float(second.scores("all").mean() - first.scores("all").mean())
    return {**row, "wrong_to_right": tested.gained, "right_to_wrong": tested.lost, "points": difference, "p": tested.p}
