"""The comparison table: accuracies, gains, intervals and paired tests of a study, from its graded samples alone."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ttsv.metrics import metrics
from ttsv.stats import (
    MIN_SEEDS,
    accuracy_interval,
    difference_interval,
    difference_p,
    holm,
)
from ttsv.study import HALVES, Cell, Group

BASELINES = ("none", "untrained_prefix")


def comparison(group: Group) -> pd.DataFrame:
    """Return one row per half, method and seed; accuracies and gains in percent and percentage points.

    A cell is compared with the baseline of its own seed; where a baseline does not depend on the seed, any of its runs is the same. Each
    comparison has a p-value ``p_<baseline>`` and ``p_holm_<baseline>``, the same adjusted for all comparisons of the frame (Holm).
    """
    rows: list[dict[str, Any]] = []
    for half in _halves(group):
        by_method: dict[tuple[str, str], list[Cell]] = {}
        for cell in sorted(group.cells, key=_place):
            if len(cell.scores(half)):
                by_method.setdefault(_key(cell), []).append(cell)
        for cells in by_method.values():
            of_method = [_row(group, cell, half) for cell in cells]
            rows += of_method + _mean_row(group, cells, half, of_method)
    return _adjusted(pd.DataFrame(rows))


def accuracy_of(cells: Sequence[Cell], half: str = "all") -> tuple[float, float, float]:
    """Return accuracy and its 95 % interval, in percent, of a method's cells: one, or one per seed on the same problems.

    This is where the interval of a cell and of a mean over seeds is chosen. Problems are the units: seeds count as further samples of the
    same problems, so an interval is about other problems for these very seeds (:func:`ttsv.stats.accuracy_interval`).
    """
    scores = pd.concat([cell.scores(half) for cell in cells], axis=1).mean(axis=1)
    low, high = accuracy_interval(scores, sum(cell.samples_per_problem for cell in cells))
    return 100 * float(scores.mean()), 100 * float(low), 100 * float(high)


def _adjusted(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with Holm-adjusted p-values over all of its tests."""
    if frame.empty:
        return frame
    p_values = frame[[f"p_{name}" for name in BASELINES]].to_numpy(dtype=float)
    tested, adjusted = ~np.isnan(p_values), np.full_like(p_values, np.nan)
    adjusted[tested] = holm(p_values[tested].tolist())
    return frame.assign(**{f"p_holm_{name}": adjusted[:, place] for place, name in enumerate(BASELINES)})


def _key(cell: Cell) -> tuple[str, str]:
    return cell.label, str(cell.facts.get("options", ""))


def _shown(group: Group, cell: Cell) -> str:
    """Return the cell's label, with a tag where cells of other options share it."""
    label, options = _key(cell)
    return label if len({_key(c) for c in group.cells if c.label == label}) <= 1 else f"{label} [options {options[:4]}]"


def _mean_row(group: Group, cells: Sequence[Cell], half: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean over several seeds, if there are. A gain is averaged only where every seed has one.

    From three seeds on a gain has an interval and a test in which problems and seeds both count as drawn; two seeds have none.
    """
    if len(rows) < 2:
        return []
    frame = pd.DataFrame(list(rows))
    averaged = (
        "accuracy",
        "boxed",
        "truncated",
        "tokens",
        "spent",
        "seconds",
        *(f"relative_{name}" for name in BASELINES),
    )
    means = {name: frame[name].astype(float).mean(skipna=False) for name in averaged}
    for name in BASELINES:
        means = _against(name, group, cells, half) | means
    spread = f"{len(rows)} seeds, {frame['accuracy'].min():.1f} to {frame['accuracy'].max():.1f} %"
    same = {name: rows[0][name] for name in ("half", "method", "n", "samples")}
    return [{**dict.fromkeys(frame.columns), **means, **same, "seed": "mean", "note": spread}]


def _row(group: Group, cell: Cell, half: str) -> dict[str, Any]:
    accuracy, low, high = accuracy_of([cell], half)
    rows = cell.half(half)
    rates = metrics(rows)
    row: dict[str, Any] = {
        "half": half,
        "method": _shown(group, cell),
        "seed": cell.seed,
        "n": rows["problem_id"].nunique(),
        "samples": cell.samples_per_problem,
        "accuracy": accuracy,
        "ci_low": low,
        "ci_high": high,
    }
    for name in BASELINES:
        row |= _against(name, group, [cell], half)
    return row | {
        "boxed": 100 * rates["boxed"],
        "truncated": 100 * rates["truncated"],
        "tokens": rates["tokens"],
        "spent": cell.tokens_per_problem,
        "timeouts": rates["flags"]["timeout"] + rates["flags"]["error"],
        "graders_disagree": int(rows["graders_disagree"].sum()) if "graders_disagree" in rows else None,
        "seconds": cell.seconds,
        "note": cell.note or "",
    }


AGAINST = ("baseline", "gain", "gain_low", "gain_high", "relative", "test", "p", "wrong_to_right", "right_to_wrong")


def _against(name: str, group: Group, cells: Sequence[Cell], half: str) -> dict[str, Any]:
    """Return what the table says of the seeds of a method against a baseline: for one seed, or for the mean of several."""
    found: dict[str, Any] = dict.fromkeys(AGAINST)
    bases = [base for cell in cells if (base := baseline(group, cell, name))]
    if len(bases) == len(cells):
        befores, afters = [], [cell.scores(half) for cell in cells]
        for base, after in zip(bases, afters, strict=True):
            befores.append(base.scores("all")[after.index])
        gains = [100 * float(after.mean() - before.mean()) for before, after in zip(befores, afters, strict=True)]
        found |= {"baseline": _shown(group, bases[0]), "gain": float(np.mean(gains))}
        if len(cells) == 1:
            before, difference = float(befores[0].mean()), afters[0] - befores[0]
            found["relative"] = gains[0] / before if before else None
            found |= {"wrong_to_right": int((difference > 0).sum()), "right_to_wrong": int((difference < 0).sum())}
        if _same_problems(afters) and (len(cells) == 1 or len(cells) >= MIN_SEEDS):
            samples = min(cell.samples_per_problem for cell in (*cells, *bases))
            found |= _test(np.array(afters) - np.array(befores), samples)
    return {f"{what}_{name}": value for what, value in found.items()}


def _same_problems(scores: Sequence[pd.Series]) -> bool:
    return all(scores[0].index.equals(other.index) for other in scores[1:])


def _test(differences: npt.NDArray[np.float64], samples: int) -> dict[str, Any]:
    low, high = difference_interval(differences, samples)
    single = "exact McNemar" if np.isin(differences, (-1, 0, 1)).all() else "sign-flip"
    return {
        "gain_low": 100 * float(low),
        "gain_high": 100 * float(high),
        "test": single if len(differences) == 1 else "problems and seeds drawn",
        "p": difference_p(differences, samples),
    }


def baseline(group: Group, cell: Cell, name: str) -> Cell | None:
    """Return the cell to compare with: of the same seed, or for ``none``, which has no vector, any; of the same variant if it exists.

    ``none`` itself has no baseline.
    """
    if cell.method in (name, "none"):
        return None
    found = [c for c in group.all_cells if c.method == name and (c.seed == cell.seed or name == "none")]
    found.sort(key=lambda c: (c.aggregate != cell.aggregate, c.variant != cell.variant, c.seed != cell.seed))
    return found[0] if found else None


def _halves(group: Group) -> list[str]:
    """Return the halves that exist: both where some problems were held out, else all."""
    split = any(cell.optimised_ids and set(cell.samples["problem_id"]) - cell.optimised_ids for cell in group.cells)
    return list(HALVES) if split else ["all"]


def _place(cell: Cell) -> tuple[int, list[str | float], int]:
    """Return what a table is sorted by: method, label with its numbers as numbers, seed."""
    order = (*BASELINES, "ttsv")
    parts = re.split(r"(\d+(?:\.\d+)?)", cell.label)
    label = [float(part) if place % 2 else part for place, part in enumerate(parts)]
    return (order.index(cell.method) if cell.method in order else len(order), label, cell.seed)
