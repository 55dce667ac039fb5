"""Curves over the updates of an optimisation: entropy, and accuracy of what was kept on the way."""

from collections.abc import Collection
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ttsv.figures.style import COLOURS, MARKERS, SEQUENTIAL, figure

WIDTH = 4.6
"""Inches: a column for the curves and room for their legend."""

TITLE = 13.5
"""Characters of a title that an inch has room for."""

LABEL = 32
"""Characters of a line of the legend, so that half of the figure is left for the curves."""

METHODS = {"ttsv": 0, "untrained_prefix": 1, "em": 2, "em_lora": 3, "slot": 4, "ttsv_sample": 5, "none": 6}
"""Places in the palette that methods keep in every figure."""

Look = tuple[Any, str]


def entropy_curves(frame: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the entropy per update, a thin line per run of a method, which the legend counts; a cross marks where a collapse was noticed.

    ``frame``: ``label`` (the method), ``run`` (tells its seeds apart), ``update``, ``entropy`` (nats), ``collapsed`` (bool: noticed at
    this update).
    """
    looks = styles(frame["label"])
    with figure(path, WIDTH, height(looks)) as drawn:
        panel = drawn.subplots()
        for label, of_method in frame.groupby("label", sort=False):
            runs = of_method["run"].nunique()
            for place, (_, line) in enumerate(of_method.groupby("run")):
                colour, marker = looks[str(label)]
                every = max(1, len(line) // 8)
                panel.plot(
                    line["update"],
                    line["entropy"],
                    color=colour,
                    marker=marker,
                    markevery=(place % every, every),
                    label=None if place else f"{label} ({runs} runs)" if runs > 1 else str(label),
                    linewidth=1.0,
                    alpha=1.0 if place == 0 else 0.6,
                )
        collapsed = frame[frame["collapsed"]]
        if len(collapsed):
            panel.scatter(
                collapsed["update"],
                collapsed["entropy"],
                marker="x",
                s=60,
                color="black",
                linewidths=1.6,
                zorder=5,
                label="collapse noticed",
            )
        from_zero(panel)
        finish(drawn, panel, title, "update", "mean token entropy, nats")


def accuracy_curves(frame: pd.DataFrame, none: float | None, title: str, path: Path) -> None:
    """Draw the accuracy of what was kept at each update, with 95 % intervals; the model alone is a dashed line.

    ``frame``: ``label`` (the method), ``update``, ``accuracy``, ``low``, ``high`` (percent).
    """
    with figure(path, WIDTH, height(frame["label"].unique())) as drawn:
        panel = drawn.subplots()
        lines_with_intervals(panel, frame, "update")
        baseline(panel, none)
        finish(drawn, panel, title, "update", "accuracy, %")


def lines_with_intervals(panel: Axes, frame: pd.DataFrame, x: str) -> None:
    """Draw accuracy against ``x``, a line per label, each set a little aside so that their intervals do not hide each other."""
    looks = styles(frame["label"])
    span = float(frame[x].max() - frame[x].min()) or 1.0
    for place, (label, line) in enumerate(frame.groupby("label", sort=False)):
        colour, marker = looks[str(label)]
        line = line.sort_values(x)
        aside = 0.012 * span * (place - (len(looks) - 1) / 2)
        panel.errorbar(
            line[x] + aside,
            line["accuracy"],
            yerr=(line["accuracy"] - line["low"], line["high"] - line["accuracy"]),
            color=colour,
            marker=marker,
            capsize=1.5,
            elinewidth=0.7,
            label=str(label),
        )


def from_zero(panel: Axes) -> None:
    """Let the vertical axis begin at 0, with room for the marker of the highest point."""
    panel.set_ylim(0, 1.04 * panel.get_ylim()[1])


def baseline(panel: Axes, none: float | None, vertical: bool = False) -> None:
    """Draw the accuracy of the model alone, if it was run, as a dashed line."""
    if none is not None:
        draw = panel.axvline if vertical else panel.axhline
        draw(none, color="0.35", linestyle="--", linewidth=1.0, zorder=0, label="none", marker="")


def styles(labels: pd.Series) -> dict[str, Look]:
    """Return a colour and a marker for each label: a method looks the same in all figures; with many labels, from dark to light."""
    names = [str(name) for name in labels.unique()]
    if len(names) <= len(COLOURS):
        free = iter(place for place in range(len(COLOURS)) if place not in {METHODS.get(name) for name in names})
        places = {name: METHODS[name] if name in METHODS else next(free) for name in names}
        return {name: (COLOURS[place], MARKERS[place]) for name, place in places.items()}
    shades = colormaps[SEQUENTIAL]
    return {
        name: (shades(0.92 * place / (len(names) - 1)), MARKERS[place % len(MARKERS)])
        for place, name in enumerate(names)
    }


def height(labels: Collection[object]) -> float:
    """Return a figure's height in inches: a column's usual one, or as much as its legend needs."""
    return max(2.5, 0.7 + 0.165 * sum(len(wrap(str(label), LABEL)) for label in labels))


def finish(drawn: Figure, panel: Axes, title: str, x: str, y: str) -> None:
    """Write title, axes and, beside the panel, the legend."""
    lines = [part for line in title.splitlines() for part in wrap(line, int(TITLE * drawn.get_figwidth()))]
    drawn.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9)
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    shown, labels = panel.get_legend_handles_labels()
    labels = ["\n".join(wrap(label, LABEL)) for label in labels]
    panel.legend(shown, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, fontsize=7)
