"""Which runs of a study are which arm of a control suite.

A suite is everything that was run on the same problems with the same model and grader around one way to train: an arm is a name and
its runs, one per seed. It needs three arms at least: the model alone, the untrained prefix, and the trained vector (``ttsv``; in a study
without it, ``released_vector``). The prompt and the evaluation are those of the trained vector.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ttsv.neutral import deciding
from ttsv.records import Problem
from ttsv.stats import MIN_SEEDS
from ttsv.study import Cell, apart, distinct
from ttsv.tasks.selection import halves

FAMILY = ("model", "task", "recipe", "scale", "grader", "limit", "problems", "weights", "device", "grader_config")
ASKED = ("prompt", "prompt_config", "evaluation", "conditions")
"""How the problems were asked and answered; what differs in it from the trained vector's is an arm of its own, or no arm."""

RELEASED, UNTRAINED, DRAWS, TRAINED = "no prefix", "untrained prefix", "random prefixes", "trained"
HELD_OUT, WITHIN, BEST = "held out", "optimised within its half", "best prompt"
FOLDS = ("first_half", "second_half")


@dataclass(frozen=True)
class Suite:
    """The arms of one way to train. The runs of ``RELEASED`` and of prompts are single; those of other arms stand by seed.

    ``arms`` holds the arms named above and one per other prompt (``prompt NAME``); ``others`` the runs of other methods by their labels;
    ``folds`` the runs optimised on each half, by seed; ``by_update`` those of vectors kept on the way; ``sampled`` the model alone with
    several samples. ``second_half`` tells for each problem id, in order, in which half it is. ``notes`` say what was left out and why.
    """

    title: str
    arms: Mapping[str, Sequence[Cell]]
    others: Mapping[str, Sequence[Cell]]
    folds: Mapping[str, Mapping[int, Cell]]
    by_update: Sequence[Cell]
    sampled: Sequence[Cell]
    second_half: pd.Series
    notes: Sequence[str]

    @property
    def released(self) -> Cell:
        """The model alone, under the prompt that the vector was trained with."""
        return self.arms[RELEASED][0]

    @property
    def prompts(self) -> dict[str, Cell]:
        """The model alone under other prompts."""
        return {
            name.removeprefix("prompt "): cells[0] for name, cells in self.arms.items() if name.startswith("prompt ")
        }


def suites(cells: Sequence[Cell]) -> list[Suite]:
    """Return the suites of a study's cells, in the order of their first runs."""
    found = []
    for family in apart(cells, lambda cell: [cell.facts[name] for name in FAMILY]):
        method = "ttsv" if any(cell.method == "ttsv" for cell in family) else "released_vector"
        trained = [cell for cell in family if cell.method == method and _is_whole(cell)]
        for of_way in apart(trained, _way):
            suite = _suite(family, _by_seed(of_way))
            found += [suite] if suite else []
    return found


def _way(cell: Cell) -> list[Any]:
    vector = cell.setting("vector") if cell.method == "released_vector" else None
    return [[cell.facts[name] for name in ASKED], _options(cell), vector]


def _options(cell: Cell) -> dict[str, Any]:
    return deciding(cell.setting("recipe.optimization") or {})


def _is_whole(cell: Cell) -> bool:
    """Tell whether a run optimised on the very problems that it was evaluated on, if on any, and was not stopped on the way."""
    return cell.setting("adapt_on") in (None, "all") and cell.setting("at_update") is None and not _is_elsewhere(cell)


def _is_elsewhere(cell: Cell) -> bool:
    return cell.adapt_task not in ("", cell.facts["task"])


def _by_seed(cells: Sequence[Cell]) -> dict[int, Cell]:
    """Return one run per seed, without those that only repeat a generation."""
    found: dict[int, Cell] = {}
    for cell in distinct(cells, lambda cell: None):
        found.setdefault(cell.seed, cell)
    return found


def _suite(family: Sequence[Cell], trained: Mapping[int, Cell]) -> Suite | None:
    first = next(iter(trained.values()))
    same_way = [c for c in family if _options(c) == _options(first)]
    asked = [c for c in same_way if _asked(c) == _asked(first)]
    alone = [c for c in family if c.method == "none" and _asked(c) == _asked(first)]
    untrained = _by_seed([c for c in asked if c.method == "untrained_prefix" and _is_whole(c)])
    seeds, notes = _seeds(trained, untrained)
    if not alone or not seeds:
        return None
    folds = {half: _by_seed([c for c in asked if _is_fold(c, half, first.method)]) for half in FOLDS}
    both = all(seed in folds[half] for half in FOLDS for seed in seeds)
    if any(folds.values()) and not both:
        notes.append("held out: not every seed was optimised on both halves, so the arm is left out")
    prompts, same_text = _prompts(family, alone[0])
    notes += [f"prompt `{name}` renders to the text of `{first.facts['prompt']}`" for name in same_text]
    draws = [c for c in asked if c.method == "random_prefix"]
    draws += [c for seed, c in untrained.items() if seed not in trained]
    arms: dict[str, Sequence[Cell]] = {RELEASED: alone[:1], **prompts}
    arms |= {UNTRAINED: [untrained[seed] for seed in seeds]}
    arms |= {DRAWS: distinct(draws, lambda cell: None)} if draws else {}
    if both:
        pairs = [(folds[FOLDS[0]][seed], folds[FOLDS[1]][seed]) for seed in seeds]
        arms |= {
            WITHIN: [joined(*pair, "optimised") for pair in pairs],
            HELD_OUT: [joined(*pair, "held-out") for pair in pairs],
        }
    arms[TRAINED] = [trained[seed] for seed in seeds]
    taken = {"none", "untrained_prefix", "random_prefix"}
    others = [
        c
        for c in asked
        if c.method not in taken and (_is_elsewhere(c) or c.method != first.method) and c.setting("at_update") is None
    ]
    return Suite(
        _title(first),
        arms,
        {of[0].label: list(_by_seed(of).values()) for of in apart(others, lambda c: c.label)},
        folds if both else {},
        [c for c in asked if c.method == first.method and c.setting("at_update") is not None and not _is_elsewhere(c)],
        [
            c
            for c in family
            if c.method == "none" and c.samples.groupby("problem_id").size().min() > 1 and _prompt(c) == _prompt(first)
        ],
        _second_half(alone[0]),
        notes,
    )


def _asked(cell: Cell) -> list[Any]:
    return [cell.facts[name] for name in ASKED]


def _prompt(cell: Cell) -> list[Any]:
    return [cell.facts[name] for name in ("prompt", "prompt_config")]


def _is_fold(cell: Cell, half: str, method: str) -> bool:
    own = cell.method == method and cell.setting("adapt_on") == half
    return own and cell.setting("at_update") is None and not _is_elsewhere(cell)


def _seeds(trained: Mapping[int, Cell], untrained: Mapping[int, Cell]) -> tuple[list[int], list[str]]:
    """Return the seeds that speak: all that both arms have; of two, the first, since two have no spread to judge by."""
    seeds = sorted(set(trained) & set(untrained))
    if 1 < len(seeds) < MIN_SEEDS:
        return seeds[:1], [
            f"of the {len(seeds)} seeds only {seeds[0]} is shown: fewer than {MIN_SEEDS} have no spread to judge by"
        ]
    return seeds, []


def _prompts(family: Sequence[Cell], released: Cell) -> tuple[dict[str, list[Cell]], list[str]]:
    """Return the arms of other prompts, and the names of those that render to the released text, told by the shared generation."""
    others: dict[str, Cell] = {}
    for cell in family:
        alike = all(cell.facts[name] == released.facts[name] for name in ("evaluation", "conditions"))
        if cell.method == "none" and alike and _prompt(cell) != _prompt(released):
            others.setdefault(str(cell.facts["prompt"]), cell)
    own = {name: cell.facts.get("generation") != released.facts.get("generation") for name, cell in others.items()}
    return {f"prompt {n}": [others[n]] for n in others if own[n]}, [n for n in others if not own[n]]


def joined(first: Cell, second: Cell, half: str) -> Cell:
    """Return the runs of two halves as one run over all problems: each problem's responses are from the run that ``half`` names."""
    samples = pd.concat([first.half(half), second.half(half)], ignore_index=True)
    return replace(
        first,
        samples=samples,
        optimised_ids=frozenset(),
        stages={},
        tokens_adaptation=first.tokens_adaptation + second.tokens_adaptation,
    )


def _second_half(cell: Cell) -> pd.Series:
    """Return per problem id, in order, whether it is in the second half, as ``adapt_on`` cuts them."""
    rows = cell.samples.drop_duplicates("problem_id").sort_values("problem_id")
    if len(rows) < 2:
        return pd.Series(False, index=rows["problem_id"])
    problems = list(_problems(rows))
    _, second = halves(problems, int(cell.setting("split_seed") or 0))
    return pd.Series([p.id in second for p in problems], index=rows["problem_id"])


def _problems(rows: pd.DataFrame) -> Iterator[Problem]:
    for row in rows.to_dict("records"):
        yield Problem(row["problem_id"], "", "", "", row.get("subject") or None, row.get("level") or None)


def _title(cell: Cell) -> str:
    facts = cell.facts
    mini = " (mini scale)" if facts["scale"] == "mini" else ""
    words = (
        f"{facts['model']} on {facts['task']}{mini}: prompt {facts['prompt']}, recipe {facts['recipe']}, {cell.method}"
    )
    return ", ".join(filter(None, [words, facts["conditions"], cell.variant]))
