"""The waterfall from the model alone to the trained vector: whole bars for arms, floating bars for the steps between them."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from ttsv.figures.style import COLOURS, figure

GAIN, LOSS = COLOURS[0], COLOURS[1]


def waterfall_figure(frame: pd.DataFrame, draws: pd.DataFrame, title: str, path: Path) -> None:
    """Draw a row per arm or step, from the top down.

    ``frame``: ``row`` (its words), ``kind`` (``arm``: a bar from 0; ``step``: a bar from ``start``), ``start``, ``end``, ``low``, ``high``
    (percent; the range is drawn about the end). ``draws``: ``row`` (which row their dots stand on) and ``accuracy`` of single prefixes.
    """
    with figure(path, 5.6, 1.1 + 0.3 * len(frame)) as drawn:
        panel = drawn.subplots()
        names = list(frame["row"])
        for place, row in enumerate(frame.to_dict("records")):
            if row["kind"] == "arm":
                panel.barh(place, row["end"], color="0.75", height=0.6)
            else:
                gained = row["end"] >= row["start"]
                panel.barh(
                    place,
                    row["end"] - row["start"],
                    left=row["start"],
                    height=0.6,
                    color=GAIN if gained else LOSS,
                    hatch=None if gained else "///",
                    edgecolor="white",
                )
            spread = ([max(row["end"] - row["low"], 0)], [max(row["high"] - row["end"], 0)])
            panel.errorbar([row["end"]], [place], xerr=spread, color="black", marker="", capsize=2, elinewidth=0.9)
            if place and frame["kind"][place] == "step":
                panel.plot([row["start"]] * 2, [place - 1, place], color="0.5", linewidth=0.6, marker="")
        for accuracy, row in zip(draws["accuracy"], draws["row"], strict=True):
            panel.plot(
                accuracy,
                names.index(row),
                color=COLOURS[4],
                marker="D",
                markersize=3.5,
                linestyle="",
                markeredgecolor="black",
            )
        panel.set_yticks(np.arange(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_xlim(
            0.0, min(100.0, 1.05 * float(frame[["high", "end"]].to_numpy(dtype=float).max()))
        )  # a wider range leaves the panel
        explained = "arms: 95 % interval; steps: simultaneous 95 % range\nhatched: a loss; diamonds: single prefixes"
        panel.set_xlabel(f"accuracy, %\n{explained}", fontsize=7)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        drawn.suptitle(title, x=0.01, ha="left", fontsize=9)
