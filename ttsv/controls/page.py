"""The page of a study's control suites: ``controls.md``, its figures, and a CSV file for every table."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from ttsv.controls import decomposition
from ttsv.controls.arms import Suite, suites
from ttsv.controls.comparisons import against, arms_frame, draws_frame, folds_frame, outcomes, voting_frame
from ttsv.controls.drawing import draw
from ttsv.controls.dynamics import updates_frame
from ttsv.controls.sections import SECTIONS
from ttsv.rendering import markdown
from ttsv.store import slug, write_atomically
from ttsv.study import Cell
from ttsv.waterfall import Waterfall, waterfall

PAGE = "controls.md"

FRAMES: dict[str, Callable[[Suite], pd.DataFrame]] = {
    "arms": arms_frame,
    "draws": draws_frame,
    "comparisons": against,
    "voting": voting_frame,
    "folds": folds_frame,
    "traits": decomposition.traits_frame,
    "lengths": decomposition.lengths_frame,
    "failures": decomposition.failures_frame,
    "format": decomposition.format_frame,
    "flows": decomposition.flows_frame,
    "caps": decomposition.caps_frame,
    "strata": decomposition.strata_frame,
    "graders": decomposition.graders_frame,
    "updates": updates_frame,
}
"""Every table of a suite: its name, which is also its file's, and what makes it."""

INTRODUCTION = (
    "Made by `python -m ttsv.report` from run records and stage directories alone. Every table stands in full in `controls/*.csv`. The "
    "rules of the verdict are those of `ttsv/waterfall.py`; how often they are right, silent and wrong on data of known truth: "
    "`results/verdict_rules.md`. Numbers at mini scale say nothing about the paper's models."
)


def write_page(study: str, cells: Sequence[Cell], folder: Path) -> Path | None:
    """Write ``controls.md``, ``controls/*.csv`` and the figures into a study's folder; return the page, or None where no suite is.

    A suite needs the model alone, the untrained prefix and the trained vector, optimised on all problems (:mod:`ttsv.controls.arms`).
    """
    found = suites(cells)
    if not found:
        return None
    (folder / "controls").mkdir(parents=True, exist_ok=True)
    parts = [f"# {study}: how much of the gain is real\n", INTRODUCTION + "\n"]
    tables: dict[str, list[pd.DataFrame]] = {}
    for number, suite in enumerate(found):
        verdict = waterfall(outcomes(suite))
        frames = {"steps": verdict.frame(), **{name: make(suite) for name, make in FRAMES.items()}}
        for name, frame in frames.items():
            tables.setdefault(name, []).append(frame.assign(suite=suite.title))
        name = slug(
            "-".join(
                ["controls", str(number + 1), str(suite.released.facts["model"]), str(suite.released.facts["task"])]
            )
        )
        figures = draw(suite, verdict, frames, folder / "figures", name.replace(".", "-"))
        parts += _suite(suite, verdict, frames, figures)
    for name, of_suites in tables.items():
        shown = [frame for frame in of_suites if len(frame)]
        if shown:
            write_atomically(folder / "controls" / f"{name}.csv", pd.concat(shown).to_csv(index=False))
    write_atomically(folder / PAGE, "\n".join(parts))
    return folder / PAGE


def _suite(suite: Suite, verdict: Waterfall, frames: dict[str, pd.DataFrame], figures: dict[str, str]) -> list[str]:
    lines = [f"# {suite.title}\n"]
    for name, section in SECTIONS.items():
        shown = section(suite, verdict, frames)
        lines += [markdown(each) for each in shown]
        lines += [f"![{name}](figures/{figures[name]}.png)\n"] if name in figures and shown else []
    return lines
