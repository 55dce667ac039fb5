"""The comparison table: accuracies, gains, intervals and paired tests of a study, from its graded samples alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ttsv.metrics import metrics
from ttsv.stats import Paired, mcnemar, smallest_discordance, wilson

BASELINES = ("none", "untrained_prefix")
HALVES = ("optimised", "held-out")


@dataclass(frozen=True)
class Cell:
    """One finished run: what it was (``facts``), its graded samples, and which problems its vector was optimised on."""

    facts: dict[str, Any]
    samples: pd.DataFrame
    optimised_ids: frozenset[str]
    note: str | None = None
    seconds: float = 0.0

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.facts["method"])

    @property
    def variant(self) -> str:
        """What was changed about the method on the command line, or an empty text."""
        return str(self.facts.get("variant", ""))

    @property
    def label(self) -> str:
        """Method and variant, as shown."""
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def seed(self) -> int:
        """The seed that the run was started with."""
        return int(self.facts["seed"])

    def scores(self, half: str) -> pd.Series:
        """Return the share of right samples per problem id, on one half or on ``all``."""
        return _restrict(self.samples, self.optimised_ids, half).groupby("problem_id")["correct"].mean().sort_index()


@dataclass(frozen=True)
class Group:
    """Cells that may be compared: the same model, problems, prompt and evaluation. ``title`` names what they share."""

    title: str
    cells: Sequence[Cell]
    context: dict[str, Any] = field(default_factory=dict)


def comparison(group: Group) -> pd.DataFrame:
    """Return one row per half, method and seed; accuracies and gains in percent and percentage points.

    A cell is compared with the baseline of its own seed; where a baseline does not depend on the seed, any of its runs is the same.
    """
    rows: list[dict[str, Any]] = []
    for half in _halves(group):
        by_method: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for cell in sorted(group.cells, key=_place):
            scores = cell.scores(half)
            if len(scores):
                key = (cell.label, str(cell.facts.get("options", "")))
                by_method.setdefault(key, []).append(_row(group, cell, half, scores))
        labels = [label for label, _ in by_method]
        for (label, options), of_method in by_method.items():
            shown = label if labels.count(label) == 1 else f"{label} [options {options[:4]}]"
            rows += [{**row, "method": shown} for row in of_method + _mean_row(of_method)]
    return pd.DataFrame(rows)


def _mean_row(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean over several seeds, if there are; it has no interval and no test, since the seeds share their problems.

    A gain is averaged only where every seed has one.
    """
    if len(rows) < 2:
        return []
    averaged = [
        "accuracy",
        "boxed",
        "truncated",
        "tokens",
        "seconds",
        *(f"{w}_{b}" for w in ("gain", "relative") for b in BASELINES),
    ]
    frame = pd.DataFrame(list(rows))
    means = {name: frame[name].astype(float).mean(skipna=False) for name in averaged}
    spread = f"{len(rows)} seeds, {frame['accuracy'].min():.1f} to {frame['accuracy'].max():.1f} %"
    same = {name: rows[0][name] for name in ("half", "method", "n")}
    return [{**dict.fromkeys(frame.columns), **same, "seed": "mean", **means, "note": spread}]


def _row(group: Group, cell: Cell, half: str, scores: pd.Series) -> dict[str, Any]:
    accuracy = float(scores.mean())
    low, high = wilson(accuracy, len(scores))
    rows = _restrict(cell.samples, cell.optimised_ids, half)
    rates = metrics(rows)
    row: dict[str, Any] = {
        "half": half,
        "method": cell.label,
        "seed": cell.seed,
        "n": len(scores),
        "accuracy": 100 * accuracy,
        "ci_low": 100 * low,
        "ci_high": 100 * high,
    }
    for name in BASELINES:
        base = baseline(group, cell, name)
        row |= _against(name, base, cell, half, accuracy, scores)
    return row | {
        "boxed": 100 * rates["boxed"],
        "truncated": 100 * rates["truncated"],
        "tokens": rates["tokens"],
        "timeouts": rates["flags"]["timeout"] + rates["flags"]["error"],
        "graders_disagree": int(rows["graders_disagree"].sum()) if "graders_disagree" in rows else None,
        "seconds": cell.seconds,
        "note": cell.note or "",
    }


def _against(name: str, base: Cell | None, cell: Cell, half: str, accuracy: float, scores: pd.Series) -> dict[str, Any]:
    columns = [f"{what}_{name}" for what in ("gain", "relative", "p", "wrong_to_right", "right_to_wrong")]
    paired = paired_with(base, cell, half)
    if base is None or paired is None:
        return dict.fromkeys(columns, None)
    before = float(base.scores("all")[scores.index].mean())
    relative = 100 * (accuracy / before - 1) if before else None
    return dict(zip(columns, (100 * (accuracy - before), relative, paired.p, paired.gained, paired.lost), strict=True))


def baseline(group: Group, cell: Cell, name: str) -> Cell | None:
    """Return the cell to compare with: of the same seed, or for ``none``, which has no vector, any; of the same variant if it exists.

    ``none`` itself has no baseline.
    """
    if cell.method in (name, "none"):
        return None
    found = [c for c in group.cells if c.method == name and (c.seed == cell.seed or name == "none")]
    found.sort(key=lambda c: (c.variant != cell.variant, c.seed != cell.seed))
    return found[0] if found else None


def paired_with(base: Cell | None, cell: Cell, half: str) -> Paired | None:
    """Return the paired test of a cell against its baseline on the same problems, or None without a baseline."""
    if base is None:
        return None
    after = cell.scores(half)
    return mcnemar(base.scores("all")[after.index], after)


def verdicts(group: Group) -> list[str]:
    """Say in words, by stated rules, what the tests show: one sentence per half, cell and baseline."""
    sentences = []
    for half in _halves(group):
        for cell in sorted(group.cells, key=_place):
            for name in BASELINES:
                base = baseline(group, cell, name)
                paired = paired_with(base, cell, half)
                if base is not None and paired is not None:
                    sentences.append(_sentence(cell, base, half, paired))
    return sentences


def _sentence(cell: Cell, base: Cell, half: str, paired: Paired) -> str:
    after = cell.scores(half)
    before = base.scores("all")[after.index]
    difference = 100 * float(after.mean() - before.mean())
    changed = paired.gained + paired.lost
    where = {
        "all": "on all problems",
        "optimised": "on the problems it was optimised on",
        "held-out": "on the held-out half",
    }[half]
    head = (
        f"{cell.label} (seed {cell.seed}) against {base.method} {where} (n={len(after)}): {difference:+.1f} points, "
        f"{paired.gained} wrong to right, {paired.lost} right to wrong, exact McNemar p={paired.p:.3g}."
    )
    if paired.p < 0.05:
        return f"{head} {'Better' if paired.gained > paired.lost else 'Worse'} at the 5 % level, before any correction for several tests."
    if changed < smallest_discordance():
        return f"{head} Too few problems changed ({changed}) for any test to tell: the evidence is too thin."
    return f"{head} The evidence is too thin to call this a difference."


def _halves(group: Group) -> list[str]:
    """Return the halves that exist: both where some problems were held out, else all."""
    split = any(cell.optimised_ids and set(cell.samples["problem_id"]) - cell.optimised_ids for cell in group.cells)
    return list(HALVES) if split else ["all"]


def _restrict(samples: pd.DataFrame, optimised: frozenset[str], half: str) -> pd.DataFrame:
    if half == "all":
        return samples
    inside = samples["problem_id"].isin(optimised)
    return samples[inside if half == "optimised" else ~inside]


def _place(cell: Cell) -> tuple[int, str, int]:
    order = (*BASELINES, "ttsv")
    return (order.index(cell.method) if cell.method in order else len(order), cell.label, cell.seed)
