"""What an adaptation does to the hidden states of the prompts: how far it moves them, layer by layer, and where they lie."""

from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.figures.curves import WIDTH, finish, from_zero, height, styles
from ttsv.figures.style import MARKERS, figure


def layer_drift(frame: pd.DataFrame, path: Path, title: str = "Shift of the prompt's hidden states") -> None:
    """Draw the relative shift of the hidden states by layer, the mean over problems with its middle 80 %.

    ``frame``: a row per problem (or per mean over problems) with ``method``, ``layer`` (0 is the input) and ``relative_shift``.
    """
    looks = styles(frame["method"])
    with figure(path, WIDTH, height(looks)) as drawn:
        panel = drawn.subplots()
        for method, rows in frame.groupby("method", sort=False):
            colour, marker = looks[str(method)]
            by_layer = rows.groupby("layer")["relative_shift"]
            mean, low, high = by_layer.mean(), by_layer.quantile(0.1), by_layer.quantile(0.9)
            panel.fill_between(mean.index, low, high, color=colour, alpha=0.18, linewidth=0)
            panel.plot(
                mean.index, mean, color=colour, marker=marker, markevery=max(1, len(mean) // 10), label=str(method)
            )
        from_zero(panel)
        finish(drawn, panel, title, "layer (0: input)", "|moved - plain| / |plain|\n(band: middle 80 %)")


def embedding_map(frame: pd.DataFrame, path: Path, title: str = "t-SNE of the last hidden states") -> None:
    """Draw points of a plane: a colour per ``group`` and, where the frame has one, a marker per ``kind``.

    ``frame``: ``x``, ``y``, ``group``, perhaps ``kind``. Neither axis has a unit, and distances between far groups mean nothing in t-SNE.
    """
    frame = frame if "kind" in frame else frame.assign(kind=frame["group"])
    colours, markers = styles(frame["group"]), dict(zip(frame["kind"].unique(), cycle(MARKERS), strict=False))
    with figure(path, WIDTH, 3.2) as drawn:
        panel = drawn.subplots()
        for (group, kind), points in frame.groupby(["group", "kind"], sort=False):
            panel.scatter(points["x"], points["y"], s=9, color=[colours[str(group)][0]], marker=markers[kind], **_POINT)
        for group, (colour, _) in colours.items():
            # A bar where no kind is meant: every marker but it stands for one.
            look: dict[str, Any] = {"marker": markers[group], "s": 16} if group in markers else _BAR
            panel.scatter([], [], color=[colour], label=group, **look)
        if not frame["kind"].equals(frame["group"]):
            for kind, marker in markers.items():
                panel.scatter([], [], color="0.35", marker=marker, label=str(kind), s=16)
        finish(drawn, panel, title, "", "")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[["top", "right"]].set_visible(True)


_POINT: dict[str, Any] = {"alpha": 0.8, "edgecolors": "white", "linewidths": 0.2}
_BAR: dict[str, Any] = {"marker": "_", "s": 60, "linewidths": 3.0}
