"""The one style of all figures: readable in print, in grey and by the colour-blind; the same bytes from the same numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from cycler import cycler

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette (Color Universal Design, 2008), strongest contrasts first."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""A marker for each colour, so that no line is told by its colour alone."""

DIVERGING, SEQUENTIAL = "PuOr_r", "cividis"
"""Colour maps: of signed values around 0, and of values from low to high."""

COLUMN, PAGE = 3.4, 7.0
"""Widths in inches of a column and of a page of print."""

_SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "axes.prop_cycle": cycler(color=COLOURS, marker=MARKERS),
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "ttsv",
    "svg.fonttype": "none",
}


@contextmanager
def figure(path: Path, width: float = COLUMN, height: float = 2.4) -> Iterator[Figure]:
    """Give a figure of ``width`` x ``height`` inches to draw on, then save it as ``path`` with .png (300 dpi) and .svg."""
    with mpl.rc_context(_SETTINGS):
        drawn = plt.figure(figsize=(width, height))
        try:
            yield drawn
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn.savefig(path.with_suffix(".png"), dpi=300, metadata={"Software": None})
            drawn.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        finally:
            plt.close(drawn)
