"""Heat maps of transfer: which task's vectors, evaluated on which task."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, TwoSlopeNorm

from ttsv.figures.style import DIVERGING, PAGE, SEQUENTIAL, figure

MISSING = "#f2f2f2"


@dataclass(frozen=True)
class HeatMap:
    """A matrix, adaptation tasks by evaluation tasks (NaN: missing), how its numbers are written, and whether they are signed."""

    title: str
    matrix: pd.DataFrame
    form: str
    signed: bool


def heat_maps(maps: Sequence[HeatMap], title: str, path: Path) -> None:
    """Draw matrices side by side, each number in its cell in black or white, whichever is the more readable on its colour."""
    tasks = len(maps[0].matrix)
    with figure(path, PAGE, 1.3 + 0.34 * tasks) as drawn:
        drawn.suptitle(f"{title}; bold: the task's own vector", fontsize=9)
        for place, (panel, shown) in enumerate(zip(drawn.subplots(1, len(maps), squeeze=False)[0], maps, strict=True)):
            _draw(panel, shown)
            panel.set_xlabel("evaluated on")
            if place == 0:
                panel.set_ylabel("adapted on")
            else:
                panel.set_yticklabels([])


def _draw(panel: Axes, shown: HeatMap) -> None:
    values = shown.matrix.to_numpy(dtype=float)
    scale, colours = _scale(values, shown.signed), colormaps[DIVERGING if shown.signed else SEQUENTIAL]
    panel.imshow(np.ma.masked_invalid(values), cmap=colours.with_extremes(bad=MISSING), norm=scale, aspect="auto")
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        text, ink = ("-", "black") if np.isnan(value) else (format(value, shown.form), _ink(colours, scale(value)))
        own = shown.matrix.index[row] == shown.matrix.columns[column]
        panel.text(
            column, row, text, ha="center", va="center", color=ink, weight="bold" if own else "normal", fontsize=7
        )
    panel.set_title(shown.title)
    panel.set_xticks(range(values.shape[1]), shown.matrix.columns, rotation=35, ha="right", rotation_mode="anchor")
    panel.set_yticks(range(values.shape[0]), shown.matrix.index)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)


def _scale(values: np.ndarray, signed: bool) -> Normalize:
    known = values[~np.isnan(values)]
    if signed:
        most = float(np.abs(known).max(initial=1e-9))
        return TwoSlopeNorm(0, -most, most)
    return Normalize(float(known.min(initial=100)), float(max(known.max(initial=0), known.min(initial=100) + 1e-9)))


def _ink(colours: Colormap, place: float) -> str:
    """Return black or white, whichever contrasts more with a colour: relative luminance as in WCAG 2 (0.179 divides them)."""
    channels = np.asarray(colours(place)[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if float(linear @ np.array([0.2126, 0.7152, 0.0722])) > 0.179 else "white"
