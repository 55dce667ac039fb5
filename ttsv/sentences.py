"""What a comparison's tests show, in words by stated rules, and what so many problems could show at all."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from scipy.stats import norm

from ttsv.stats import smallest_discordance, smallest_effect
from ttsv.tables import BASELINES

LEVEL = 0.05


def verdicts(frame: pd.DataFrame) -> list[str]:
    """Say in words, by stated rules, what the tests of a comparison show: one sentence per row and baseline, by the adjusted p-value."""
    rows = frame.to_dict("records")
    tested = [(row, name) for row in rows for name in BASELINES if pd.notna(row[f"p_{name}"])]
    return [_sentence(row, name, len(tested)) for row, name in tested]


def _sentence(row: Mapping[Hashable, Any], name: str, tests: int) -> str:
    where = {
        "all": "on all problems",
        "optimised": "on the optimised half",
        "held-out": "on the held-out half",
    }[row["half"]]
    gain, low, high, p, adjusted = (row[f"{what}_{name}"] for what in ("gain", "gain_low", "gain_high", "p", "p_holm"))
    seeds = "mean over seeds" if row["seed"] == "mean" else f"seed {row['seed']}"
    who = f"{row['method']} ({seeds}) against {row[f'baseline_{name}']} {where} (n={row['n']})"
    head, changed = f"{who}: {gain:+.1f} points ({low:+.1f} to {high:+.1f}), ", None
    if row["seed"] != "mean":
        gained, lost = int(row[f"wrong_to_right_{name}"]), int(row[f"right_to_wrong_{name}"])
        head += f"{gained} wrong to right, {lost} right to wrong, "
        changed = gained + lost
    head += f"{row[f'test_{name}']} p={p:.3g}"
    head += f", Holm-adjusted for the table's {tests} tests p={adjusted:.3g}." if tests > 1 else "."
    if adjusted < LEVEL:
        after = ", after adjustment for all tests of the table" if tests > 1 else ""
        return f"{head} {'Better' if gain > 0 else 'Worse'} at the 5 % level{after}."
    if changed is not None and changed < smallest_discordance():
        return f"{head} Too few problems changed ({changed}) for any test to tell: the evidence is too thin."
    return f"{head} The evidence is too thin to call this a difference."


def resolution(frame: pd.DataFrame) -> str | None:
    """Say what the smallest true difference is that a comparison of so many problems could show, or None without tests.

    Per half, in the median comparison of single seeds, with a power of 80 %, at the level that Holm's procedure asks of its smallest
    p-value. With one sample a problem: McNemar's exact test at the share of problems that changed; with several: from the
    intervals' widths, as if normal.
    """
    tests = sum(int(frame[f"p_{name}"].notna().sum()) for name in BASELINES) if len(frame) else 0
    if not tests:
        return None
    parts = []
    for half in frame["half"].unique():
        rows = frame[(frame["half"] == half) & (frame["seed"] != "mean")].copy()
        for name in BASELINES:
            rows[f"changed_{name}"] = rows[f"wrong_to_right_{name}"] + rows[f"right_to_wrong_{name}"]
        if rows[[f"p_{name}" for name in BASELINES]].notna().any(axis=None):
            parts.append(_smallest(rows, str(half), LEVEL / tests))
    level = f"5 % shared by {tests} tests" if tests > 1 else "5 %"
    return f"Smallest true difference that so many problems show in 80 % of data sets, at {level}: {'; '.join(parts)}."


def _smallest(rows: pd.DataFrame, half: str, level: float) -> str:
    def median(what: str) -> float:
        return float(pd.concat([rows[f"{what}_{name}"] for name in BASELINES]).dropna().astype(float).median())

    problems = int(rows["n"].iloc[0])
    if rows["samples"].max() > 1:
        standard_error = (median("gain_high") - median("gain_low")) / 2 / norm.ppf(0.975)
        effect: float | None = standard_error / 100 * (norm.isf(level / 2) + norm.ppf(0.8))
        basis = "from the width of the median interval"
    else:
        changed = median("changed") / problems
        effect = smallest_effect(problems, changed, level)
        basis = f"{100 * changed:.0f} % of them changed in the median comparison"
    return f"{'none at all' if effect is None else f'{100 * effect:.1f} points'} ({half}: n={problems}, {basis})"
