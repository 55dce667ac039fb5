"""The audit's figures, from its findings alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ttsv.auditing.findings import CompletionFindings, FolderFindings, VectorFindings
from ttsv.auditing.traits import TRAITS
from ttsv.figures.style import COLOURS, MARKERS, PAGE, SEQUENTIAL, figure

Numbers = npt.NDArray[np.float64]
Vectors = Sequence[tuple[str, VectorFindings]]
Completions = Sequence[tuple[str, CompletionFindings]]

ACCURACY = "math_verify"
"""The grader whose verdicts are drawn."""


def draw_all(out: Path, findings: Sequence[FolderFindings]) -> None:
    """Draw every figure that the findings allow into ``out``."""
    vectors = [(found.folder.label, found.vector) for found in findings if found.vector is not None]
    completions = [(found.folder.label, found.completions) for found in findings if found.completions is not None]
    if vectors:
        draw_entries(out / "entries", vectors)
        draw_null(out / "null_correlations", vectors)
        draw_rows(out / "row_movement", vectors)
    if completions:
        draw_shares(out / "shares", completions)
        draw_accuracy_given(out / "accuracy_given_trait", completions)
        if any(found.rows["level"].notna().any() for _, found in completions):
            draw_levels(out / "accuracy_by_level", completions)


def draw_entries(path: Path, vectors: Vectors) -> None:
    """Draw each entry of the released vector against the same entry of the best candidate, as a density."""
    with figure(path, PAGE, 2.9 * _lines(vectors)) as drawn:
        for panel, (name, found) in zip(_panels(drawn, len(vectors)), vectors, strict=True):
            density = panel.hexbin(
                found.initial.ravel(),
                found.vectors.ravel(),
                gridsize=90,
                bins="log",
                mincnt=1,
                cmap=SEQUENTIAL,
                linewidths=0,
            )
            density.set_rasterized(True)
            panel.axline((0, 0), slope=1, color="black", linewidth=0.6, linestyle=":")
            panel.set_aspect("equal")
            panel.set_title(f"{name}\ncorrelation {found.summary['correlation']:.4f}")
            panel.set_xlabel(f"{found.candidates['order'].iloc[0]},\nseed {found.candidates['seed'].iloc[0]}")
            panel.set_ylabel("released")
            drawn.colorbar(density, ax=panel, label="entries", shrink=0.8)


def draw_null(path: Path, vectors: Vectors) -> None:
    """Draw how the correlations with all candidates are distributed, the best one apart."""
    bins = [step / 100 for step in range(-5, 106)]
    with figure(path, PAGE, 2.2 * _lines(vectors)) as drawn:
        for panel, (name, found) in zip(_panels(drawn, len(vectors)), vectors, strict=True):
            null = found.null()
            panel.hist(null, bins=bins, color=COLOURS[5], label=f"{len(null)} other candidates")
            best = found.candidates["correlation"].iloc[0]
            panel.hist([best], bins=bins, color=COLOURS[1], label=f"best: seed {found.candidates['seed'].iloc[0]}")
            panel.set_yscale("log")
            panel.set_title(name)
            panel.set_xlabel("correlation with the released vector")
            panel.set_ylabel("candidates")
            panel.legend(loc="upper center")


def draw_rows(path: Path, vectors: Vectors) -> None:
    """Draw how far each row moved from the best candidate, in percent of its initial norm."""
    with figure(path, PAGE, 2.4) as drawn:
        panel = drawn.subplots()
        for place, (name, found) in enumerate(vectors):
            panel.plot(found.rows["row"], 100 * found.rows["relative_movement"], label=name, **_look(place))
        panel.set_ylim(bottom=0)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlabel("virtual token (row of the vector, from 0)")
        panel.set_ylabel("movement, % of the\nrow's initial norm")
        panel.legend()


def draw_shares(path: Path, completions: Completions) -> None:
    """Draw how many completions have each trait, with Wilson intervals."""
    with figure(path, PAGE, 3.2) as drawn:
        panel = drawn.subplots()
        for place, (name, found) in enumerate(completions):
            shares = found.rates[found.rates["measure"] == "share"].set_index("group").loc[[t.name for t in TRAITS]]
            _intervals(panel, shares, _heights(place, len(completions)), place, name)
        _trait_axis(panel)
        panel.legend()
        panel.set_xlabel("% of completions, 95 % Wilson interval")


def draw_accuracy_given(path: Path, completions: Completions) -> None:
    """Draw the accuracy among completions with and without each trait, with Wilson intervals."""
    with figure(path, PAGE, 3.6 * _lines(completions)) as drawn:
        panels = _panels(drawn, len(completions), sharey=True)
        for panel, (name, found) in zip(panels, completions, strict=True):
            given = found.rates[found.rates["measure"] == ACCURACY]
            for place, value in enumerate(("yes", "no")):
                part = given[given["value"] == value].set_index("group").loc[[t.name for t in TRAITS]]
                label = "with" if value == "yes" else "without"
                _intervals(panel, part, _heights(place, 2), place, label)
            panel.set_title(name)
            panel.set_xlabel(f"accuracy %, {ACCURACY}, 95 % Wilson interval")
            panel.set_xlim(-3, 103)
            _trait_axis(panel)
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def draw_levels(path: Path, completions: Completions) -> None:
    """Draw accuracy by level, with Wilson intervals."""
    with figure(path, PAGE, 2.4) as drawn:
        panel = drawn.subplots()
        for place, (name, found) in enumerate(completions):
            levels = found.rates[(found.rates["measure"] == ACCURACY) & (found.rates["group"] == "level")]
            x = np.arange(len(levels)) + _offset(place, len(completions)) / 2
            panel.errorbar(x, levels["percent"], yerr=_errors(levels), capsize=2, label=name, **_look(place))
            panel.set_xticks(range(len(levels)), list(levels["value"]))
        panel.set_ylim(0, 100)
        panel.set_xlabel("level of the problem (5 is hardest)")
        panel.set_ylabel(f"accuracy %, {ACCURACY}")
        panel.legend(loc="lower left")


def _lines(drawn: Sequence[object]) -> int:
    return -(-len(drawn) // 2)


def _panels(drawn: Figure, count: int, sharey: bool = False) -> list[Axes]:
    """Return ``count`` panels, at most two abreast."""
    columns = min(count, 2)
    panels = list(drawn.subplots(-(-count // 2), columns, squeeze=False, sharey=sharey).ravel())
    for unused in panels[count:]:
        unused.set_axis_off()
    return panels[:count]


def _look(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def _offset(place: int, of: int) -> float:
    return 0.5 * ((place + 0.5) / of - 0.5)


def _heights(place: int, of: int) -> Numbers:
    return np.arange(len(TRAITS), dtype=np.float64) + _offset(place, of)


def _errors(rates: pd.DataFrame) -> Numbers:
    return np.maximum(
        0.0, np.stack([rates["percent"] - rates["low"], rates["high"] - rates["percent"]]).astype(np.float64)
    )


def _intervals(panel: Axes, rates: pd.DataFrame, heights: Numbers, place: int, label: str) -> None:
    percent = rates["percent"].astype(float)
    panel.errorbar(percent, heights, xerr=_errors(rates), linestyle="none", capsize=2, label=label, **_look(place))


def _trait_axis(panel: Axes) -> None:
    panel.set_yticks(range(len(TRAITS)), [trait.name for trait in TRAITS])
    panel.set_ylim(len(TRAITS) - 0.5, -0.5)
    panel.grid(axis="y", linewidth=0.3, alpha=0.6)
