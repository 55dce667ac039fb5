"""What an adaptation does to the hidden states of the prompts: how far it moves them, layer by layer, and where they lie."""

from pathlib import Path

import pandas as pd

from ttsv.figures.curves import WIDTH, finish, styles
from ttsv.figures.style import figure


def layer_drift(frame: pd.DataFrame, path: Path, title: str = "Shift of the prompt's hidden states") -> None:
    """Draw the relative shift of the hidden states by layer, the mean over problems with its middle 80 %.

    ``frame``: a row per problem (or per mean over problems) with ``method``, ``layer`` (0 is the input) and ``relative_shift``.
    """
    looks = styles(frame["method"])
    with figure(path, WIDTH) as drawn:
        panel = drawn.subplots()
        for method, rows in frame.groupby("method", sort=False):
            colour, marker = looks[str(method)]
            by_layer = rows.groupby("layer")["relative_shift"]
            mean, low, high = by_layer.mean(), by_layer.quantile(0.1), by_layer.quantile(0.9)
            panel.fill_between(mean.index, low, high, color=colour, alpha=0.18, linewidth=0)
            panel.plot(
                mean.index, mean, color=colour, marker=marker, markevery=max(1, len(mean) // 10), label=str(method)
            )
        panel.set_ylim(bottom=0)
        finish(drawn, panel, title, "layer (0: input)", "|moved - plain| / |plain|")


def embedding_map(frame: pd.DataFrame, path: Path, title: str = "t-SNE of the last hidden states") -> None:
    """Draw points of a plane, a colour and marker per group.

    ``frame``: ``x``, ``y``, ``group``. Neither axis has a unit, and distances between far groups mean nothing in t-SNE.
    """
    looks = styles(frame["group"])
    with figure(path, WIDTH, 3.0) as drawn:
        panel = drawn.subplots()
        for group, points in frame.groupby("group", sort=False):
            colour, marker = looks[str(group)]
            panel.scatter(
                points["x"],
                points["y"],
                s=12,
                color=[colour],
                marker=marker,
                alpha=0.75,
                edgecolors="white",
                linewidths=0.3,
                label=str(group),
            )
        finish(drawn, panel, title, "", "")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[["top", "right"]].set_visible(True)
