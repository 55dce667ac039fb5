"""Accuracy under the settings of an ablation: numbers on an axis, names as rows of dots, and tokens spent."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, NullLocator

from ttsv.figures.curves import WIDTH, baseline, finish, height, lines_with_intervals, styles
from ttsv.figures.style import PAGE, figure


def accuracy_against(
    frame: pd.DataFrame, none: float | None, name: str, title: str, path: Path, doubling: bool = False
) -> None:
    """Draw accuracy against a number with 95 % intervals, a line per method; the model alone is a dashed line.

    ``frame``: ``label`` (the method), ``x``, ``accuracy``, ``low``, ``high`` (percent). ``name`` says what the number is. With
    ``doubling`` each doubling of it takes the same space.
    """
    frame = frame.assign(x=np.log2(frame["x"])) if doubling else frame
    with figure(path, WIDTH, height(frame["label"].unique())) as drawn:
        panel = drawn.subplots()
        lines_with_intervals(panel, frame, "x")
        baseline(panel, none)
        finish(drawn, panel, title, name, "accuracy, %")
        panel.xaxis.set_major_locator(FixedLocator(sorted(frame["x"].unique())))
        if doubling:
            panel.xaxis.set_major_formatter(lambda value, _: f"{2**value:.0f}")


def dots(frame: pd.DataFrame, none: float | None, title: str, path: Path) -> None:
    """Draw accuracy with 95 % intervals, a row per setting from the top down, a dot per method; the model alone is a dashed line.

    ``frame``: ``label`` (the method), ``setting`` (its rows in the order in which they come up), ``accuracy``, ``low``, ``high`` (percent).
    """
    settings, looks = list(dict.fromkeys(frame["setting"])), styles(frame["label"])
    with figure(path, 5.2, 1.1 + 0.1 * len(settings) * (1 + len(looks))) as drawn:
        panel = drawn.subplots()
        for place, (label, line) in enumerate(frame.groupby("label", sort=False)):
            colour, marker = looks[str(label)]
            aside = 0.22 * (place - (len(looks) - 1) / 2)
            panel.errorbar(
                line["accuracy"],
                [settings.index(setting) + aside for setting in line["setting"]],
                xerr=(line["accuracy"] - line["low"], line["high"] - line["accuracy"]),
                color=colour,
                marker=marker,
                linestyle="",
                elinewidth=0.8,
                capsize=1.5,
                label=str(label),
            )
        baseline(panel, none, vertical=True)
        finish(drawn, panel, title, "accuracy, %", "")
        panel.set_yticks(np.arange(len(settings)), settings)
        panel.set_ylim(len(settings) - 0.5, -0.5)
        panel.grid(axis="x", color="0.9", linewidth=0.6)
        panel.set_axisbelow(True)


def accuracy_by_tokens(frame: pd.DataFrame, title: str, path: Path) -> None:
    """Draw a row per method and setting, in the frame's order: the tokens spent per problem on a logarithmic axis, and the accuracy.

    ``frame``: ``label`` (method and setting), ``tokens``, ``accuracy``, ``low``, ``high`` (percent).
    """
    places = np.arange(len(frame))
    with figure(path, PAGE, 1.0 + 0.17 * len(frame)) as drawn:
        spent, reached = drawn.subplots(1, 2, sharey=True)
        spent.plot(frame["tokens"], places, linestyle="")
        spread = (frame["accuracy"] - frame["low"], frame["high"] - frame["accuracy"])
        reached.errorbar(frame["accuracy"], places, xerr=spread, linestyle="", elinewidth=0.8, capsize=1.5)
        low, high = frame["tokens"].min() / 1.5, frame["tokens"].max() * 1.5
        spent.set_xscale("log")
        spent.set_xlim(low, high)
        spent.xaxis.set_major_locator(FixedLocator(decimal_steps(low, high)))
        spent.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        spent.xaxis.set_minor_locator(NullLocator())
        spent.set_xlabel("tokens spent per problem")
        reached.set_xlabel("accuracy, %")
        spent.set_yticks(places, frame["label"], fontsize=7)
        spent.set_ylim(len(frame) - 0.5, -0.5)
        for panel in (spent, reached):
            panel.grid(color="0.9", linewidth=0.6)
            panel.set_axisbelow(True)
        drawn.suptitle(title, x=0.01, ha="left", fontsize=9)


def decimal_steps(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers between two positive ones, as close as leaves at most ``most`` of them, so that their labels do not touch."""
    for within in ((1, 2, 5), (1, 3), (1,)):
        steps = [m * 10.0**e for e in range(9) for m in within if low <= m * 10.0**e <= high]
        if len(steps) <= most:
            break
    return steps
