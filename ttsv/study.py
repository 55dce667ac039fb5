"""A study: its finished runs, read from run records and stage directories alone, and which of them may be compared."""

import json
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.metrics import MAJORITY, MEAN, problem_scores
from ttsv.records import UserError
from ttsv.store import read_manifest

log = logging.getLogger(__name__)

SHARED_FACTS = (
    "model",
    "task",
    "prompt",
    "recipe",
    "scale",
    "grader",
    "limit",
    "adapt_on",
    "problems",
    "evaluation",
    "conditions",
    "prompt_config",
    "weights",
    "device",
    "grader_config",
)
"""What cells of one table have in common."""

HALVES = ("optimised", "held-out")


@dataclass(frozen=True)
class Cell:
    """One finished run: what it was (``facts``), its graded samples, and which problems its vector was optimised on.

    ``config`` is the run's whole config; ``stages`` says in which directory each of its stages lies; ``tokens_adaptation`` counts the
    tokens of its rollouts and of its loss, those of updates after the evaluated one left out.
    """

    facts: dict[str, Any]
    samples: pd.DataFrame
    optimised_ids: frozenset[str]
    note: str | None = None
    seconds: float = 0.0
    config: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Path] = field(default_factory=dict)
    tokens_adaptation: int = 0

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.facts["method"])

    @property
    def variant(self) -> str:
        """What was changed about the method on the command line, or an empty text."""
        return str(self.facts.get("variant", ""))

    @property
    def aggregate(self) -> str:
        """How several samples of a problem become one score: ``mean`` or ``majority``."""
        return str(self.facts.get("aggregate") or self.config.get("aggregate") or MEAN)

    @property
    def label(self) -> str:
        """Method, variant and vote, as shown."""
        words = ", ".join(filter(None, [self.variant, "majority vote" if self.aggregate == MAJORITY else ""]))
        return f"{self.method} ({words})" if words else self.method

    @property
    def seed(self) -> int:
        """The seed that the run was started with."""
        return int(self.facts["seed"])

    @property
    def adapt_task(self) -> str:
        """The task whose problems the method adapted on, or an empty text where it adapts on none."""
        return str(self.facts.get("adapt_task") or "")

    @property
    def samples_per_problem(self) -> int:
        """The smallest number of scored answers of a problem: its samples, or the one answer that they voted for."""
        return 1 if self.aggregate == MAJORITY else int(self.samples.groupby("problem_id").size().min())

    @property
    def tokens_per_problem(self) -> float:
        """What an answer cost: tokens of rollouts, loss and evaluated responses, spread over the evaluated problems."""
        return float(self.tokens_adaptation + self.samples["tokens"].sum()) / self.samples["problem_id"].nunique()

    def half(self, half: str) -> pd.DataFrame:
        """Return the graded samples of the problems of one half, or of ``all``."""
        if half == "all":
            return self.samples
        inside = self.samples["problem_id"].isin(self.optimised_ids)
        return self.samples[inside if half == "optimised" else ~inside]

    def scores(self, half: str) -> pd.Series:
        """Return the score per problem id, in [0, 1], on one half or on ``all``."""
        return problem_scores(self.half(half), self.aggregate)

    def setting(self, name: str) -> Any:
        """Return a fact, or a value of the config by its dotted name; None where the run has neither."""
        if name in self.facts:
            return self.facts[name]
        found: Any = self.config
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found


@dataclass(frozen=True)
class Group:
    """Cells that may be compared: the same model, problems, prompt and evaluation. ``title`` names what they share.

    ``repeats`` are the cells that hold the very responses of one of ``cells``, by its label: another seed, or what changed nothing.
    """

    title: str
    cells: Sequence[Cell]
    context: dict[str, Any] = field(default_factory=dict)
    repeats: Mapping[str, Sequence[Cell]] = field(default_factory=dict)

    @property
    def all_cells(self) -> list[Cell]:
        """The cells with their repeats."""
        return [*self.cells, *(cell for same in self.repeats.values() for cell in same)]

    def remarks(self) -> list[str]:
        """Say which labels one row of the table stands for."""
        found = []
        for label, same in self.repeats.items():
            if others := list(dict.fromkeys(cell.label for cell in same if cell.label != label)):
                found.append(f"{label} stands also for {', '.join(others)}: the same responses.")
        return found


def read_cell(record_file: Path, results: Path) -> Cell | None:
    """Return the cell of a run record, after checking the stage directories it points to; None if it was stopped before grading.

    Raises:
        UserError: naming the file, if the record is unreadable or a stage directory is missing, damaged or foreign.
    """
    try:
        record = json.loads(record_file.read_text())
        stages = {name: results / "stages" / path for name, path in record["stages"].items()}
        facts, optimised = record["facts"], frozenset(record["optimised_ids"])
        _ = [facts[name] for name in (*SHARED_FACTS, "method", "variant", "options", "seed")]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{record_file} is not a readable run record ({error!r}); delete it and run its command again"
        ) from error
    for folder in stages.values():
        read_manifest(folder)
    if "grade" not in stages:
        return None
    adaptation = json.loads((stages["adapt"] / "adaptation.json").read_text())
    generation = json.loads((stages["generate"] / "metrics.json").read_text())
    samples = pd.read_parquet(stages["grade"] / "samples.parquet")
    if "grade_second" in stages:
        other = pd.read_parquet(stages["grade_second"] / "samples.parquet")
        samples["graders_disagree"] = other["correct"] != samples["correct"]
    return Cell(
        {**facts, "generation": stages["generate"].name},
        samples,
        optimised,
        adaptation["note"],
        adaptation["seconds"] + generation["seconds"],
        record.get("config", {}),
        stages,
        _tokens(adaptation, stages["adapt"], facts.get("at_update")),
    )


def _tokens(adaptation: Mapping[str, Any], folder: Path, at_update: int | None) -> int:
    if at_update is None:
        return int(adaptation.get("tokens_rollout", 0) + adaptation.get("tokens_loss", 0))
    rows = [row for row in read_history(folder) if row["update"] <= at_update]
    return sum(2 * row["response_tokens"] + row["prompt_tokens"] for row in rows)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of an adapt stage's ``history.jsonl``, one per update; none for methods that optimise nothing."""
    file = folder / "history.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def read_cells(folder: Path, results: Path) -> tuple[list[Cell], list[str]]:
    """Return all graded cells of a study's folder, and a line for each record that cannot be used."""
    cells: list[Cell] = []
    left_out: list[str] = []
    for file in sorted(folder.glob("*.json")):
        try:
            cell = read_cell(file, results)
            cells += [cell] if cell else []
        except UserError as error:
            left_out.append(str(error))
            log.error("left out: %s", error)
    return cells, left_out


def read_study(folder: Path, results: Path) -> tuple[list[Group], list[str]]:
    """Return the tables' groups of cells in a study's folder, and a line for each record that cannot be used."""
    cells, left_out = read_cells(folder, results)
    return grouped(cells), left_out


def grouped(cells: Sequence[Cell]) -> list[Group]:
    """Return the cells in groups, a table each."""
    return [_group(found) for found in apart(cells, lambda cell: [cell.facts[name] for name in SHARED_FACTS])]


def apart(cells: Iterable[Cell], by: Callable[[Cell], Any]) -> list[list[Cell]]:
    """Return the cells in lists of an equal (JSON-able) key ``by``, in the order in which the keys come up."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(json.dumps(by(cell)), []).append(cell)
    return list(found.values())


def distinct(cells: Iterable[Cell], by: Callable[[Cell], Hashable]) -> list[Cell]:
    """Return the cells without those that only repeat a generation under another seed, as ``none`` does; ``by`` tells others apart."""
    return [same[0] for same in _repeated(cells, by)]


def _repeated(cells: Iterable[Cell], by: Callable[[Cell], Hashable]) -> list[list[Cell]]:
    found: dict[Hashable, list[Cell]] = {}
    for cell in sorted(cells, key=lambda c: (c.seed, c.variant)):
        key = (cell.method, cell.facts.get("generation", id(cell)), cell.aggregate, by(cell))
        found.setdefault(key, []).append(cell)
    return list(found.values())


def _group(cells: Sequence[Cell]) -> Group:
    facts = cells[0].facts
    size = f"{len(set(cells[0].samples['problem_id']))} problems" + (" (a seeded subset)" if facts["limit"] else "")
    title = f"{facts['model']} on {facts['task']}, {size}: {rules(facts)}"
    repeated = _repeated(cells, lambda cell: cell.adapt_task and cell.facts.get("at_update"))
    repeats: dict[str, list[Cell]] = {}
    for first, *others in repeated:
        repeats.setdefault(first.label, []).extend(others)
    return Group(title, [same[0] for same in repeated], dict(facts), repeats)


def rules(facts: Mapping[str, Any]) -> str:
    """Return in words how the cells of a table were asked and graded; mini cells are always named so."""
    mini = ", mini scale" if facts["scale"] == "mini" else ""
    words = f"prompt {facts['prompt']}, recipe {facts['recipe']}{mini}, grader {facts['grader']}"
    return ", ".join(filter(None, [words, facts["conditions"], half_of(facts)]))


def half_of(facts: Mapping[str, Any]) -> str:
    """Return in words which half of the problems a vector was optimised on; nothing where it was all of them."""
    return "" if facts["adapt_on"] in (None, "all") else f"adapted on the {facts['adapt_on'].replace('_', ' ')}"
