"""How time and memory grow with the sizes of the work: one size at a time from a base, and the exponents of the fitted powers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import NullLocator
from scipy.stats import linregress

from ttsv.bench.work import Workload
from ttsv.figures.style import COLOURS, MARKERS, PAGE, figure

AXES = {
    "rows": ("rows", (2, 4, 8)),
    "response": ("tokens of a response", (16, 32, 64, 128)),
    "prompt": ("tokens of a prompt", (32, 64, 128, 256)),
    "length": ("virtual tokens L", (5, 20, 80)),
    "vocabulary": ("vocabulary, tokens", (40000, 20000, 10000)),
}
"""Each size's words and its values; the vocabulary comes last and shrinks, since the model's own table is cut."""

BASE = {"rows": 4, "response": 32, "prompt": 64, "length": 20}


def plan(common: Mapping[str, Any]) -> list[Workload]:
    """Return the points: each size's values, the others as in ``BASE``."""
    points: list[dict[str, Any]] = [{**BASE, name: value} for name, (_, values) in AXES.items() for value in values]
    return [Workload("update", **common, **point) for point in points]


def exponents(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the exponent b of y = a x^b, least squares in logarithms, with its standard error.

    ``frame`` has the columns of the growth file; the result a row per size, stage, quantity and side.
    """
    found = []
    for name in AXES:
        for (side, stage), points in _along(frame, name).groupby(["side", "stage"], sort=False):
            for quantity in ("seconds", "cpu_seconds", "memory"):
                positive = points[points[quantity] > 0]
                if positive[name].nunique() > 1:
                    fit = linregress(np.log(positive[name].astype(float)), np.log(positive[quantity].astype(float)))
                    found.append((name, stage, quantity, side, float(fit.slope), float(fit.stderr), len(positive)))
    return pd.DataFrame(found, columns=["size", "stage", "quantity", "side", "exponent", "error", "points"])


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Draw processor time and memory against each size, both axes logarithmic, as ``path`` with .png and .svg."""
    quantities = {"cpu_seconds": ("processor time, s", 1.0), "memory": ("memory, MiB", 2.0**20)}
    looks = {("reference", "rollout"): 0, ("reference", "loss"): 1, ("ours", "rollout"): 2, ("ours", "loss"): 3}
    with figure(path, PAGE, 3.8) as drawn:
        panels = drawn.subplots(len(quantities), len(AXES), sharey="row")
        for row, (quantity, (words, unit)) in enumerate(quantities.items()):
            for column, name in enumerate(AXES):
                panel, points = panels[row][column], _along(frame, name)
                for (side, stage), place in looks.items():
                    line = points[(points["side"] == side) & (points["stage"] == stage)].sort_values(name)
                    marks = {"color": COLOURS[place], "marker": MARKERS[place], "label": f"{stage}, {side}"}
                    panel.plot(line[name], line[quantity].clip(lower=unit / 8) / unit, **marks)
                panel.set_xscale("log")
                panel.set_yscale("log")
                panel.xaxis.set_minor_locator(NullLocator())
                ticks = sorted(AXES[name][1])
                panel.set_xticks(ticks, [f"{tick // 1000}k" if tick >= 1000 else str(tick) for tick in ticks])
                if row:
                    panel.set_xlabel(AXES[name][0])
            panels[row][0].set_ylabel(words)
        drawn.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)


def _along(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the points that differ from the base in one size alone."""
    kept = frame["vocabulary"].notna() if name == "vocabulary" else frame["vocabulary"].isna()
    for other, value in BASE.items():
        if other != name:
            kept &= frame[other] == value
    return frame[kept].drop_duplicates([name, "side", "stage"])
