"""The figures of a suite, from its tables."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.controls.arms import BEST, DRAWS, RELEASED, TRAINED, UNTRAINED, Suite
from ttsv.figures.curves import accuracy_curves
from ttsv.figures.settings import accuracy_against
from ttsv.figures.waterfall import waterfall_figure
from ttsv.waterfall import Waterfall

BEFORE = "before the first update"


def draw(
    suite: Suite, verdict: Waterfall, frames: Mapping[str, pd.DataFrame], folder: Path, name: str
) -> dict[str, str]:
    """Draw what the suite allows; return the section that each figure belongs to, and its name without ending."""
    where = suite.title.partition(": ")[0]
    drawn = {"waterfall": f"{name}-waterfall"}
    draws = frames["draws"].assign(row=frames["draws"]["arm"].replace(UNTRAINED, BEFORE))
    waterfall_figure(
        bars(suite, verdict, frames["arms"]),
        draws,
        f"From no prefix to the trained vector\n{where}",
        folder / drawn["waterfall"],
    )
    caps = frames["caps"]
    if len(caps) and caps["cap"].nunique() > 1:
        drawn["caps"] = f"{name}-caps"
        shown = caps[caps["arm"].isin([RELEASED, UNTRAINED, TRAINED])].rename(columns={"arm": "label", "cap": "x"})
        accuracy_against(
            shown,
            None,
            "generation cap, new tokens",
            f"Accuracy by generation cap\n{where}",
            folder / drawn["caps"],
            doubling=True,
        )
    updates = frames["updates"]
    if len(updates) and updates["update"].nunique() > 1:
        drawn["updates"] = f"{name}-updates"
        shown = updates.assign(label=[f"seed {seed}" for seed in updates["seed"]])
        released = frames["arms"].loc[frames["arms"]["arm"] == RELEASED, "accuracy"].item()
        accuracy_curves(shown, released, f"Accuracy while optimising\n{where}", folder / drawn["updates"])
    return drawn


def bars(suite: Suite, verdict: Waterfall, arms: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the waterfall figure (:func:`ttsv.figures.waterfall.waterfall_figure`)."""
    of_arm = {str(row["arm"]): row for row in arms.to_dict("records")}
    steps = verdict.steps
    rows = [_bar(RELEASED, of_arm[RELEASED])]
    released, untrained = verdict.arms["released"], verdict.arms["untrained"]
    if "prompt" in steps:
        rows.append(_step(f"{BEST}, no prefix", verdict, "prompt", released))
    if "draws" in steps:
        rows.append(_step(DRAWS, verdict, "draws", released))
    elif DRAWS in suite.arms:
        rows.append(_bar(DRAWS, of_arm[DRAWS]))
    rows.append(_step(BEFORE, verdict, "before", released))
    if "held_out" in steps:
        rows.append(_step("updates, on unseen problems", verdict, "held_out", untrained))
        rows.append(_step("updates on all problems", verdict, "own_problems", verdict.arms["held out"]))
    else:
        rows.append(_step("updates", verdict, "updates", untrained))
    return pd.DataFrame([*rows, _bar(TRAINED, of_arm[TRAINED])])


def _bar(name: str, row: Mapping[Hashable, Any]) -> dict[str, object]:
    return {"row": name, "kind": "arm", "start": 0.0, "end": row["accuracy"], "low": row["low"], "high": row["high"]}


def _step(name: str, verdict: Waterfall, step: str, start: float) -> dict[str, object]:
    of = verdict.steps[step]
    return {
        "row": name,
        "kind": "step",
        "start": start,
        "end": start + of.points,
        "low": start + of.low,
        "high": start + of.high,
    }
