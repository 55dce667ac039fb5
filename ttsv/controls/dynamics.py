"""The course of an optimisation by what was kept on the way, and which update is reported: by the rule, or in hindsight."""

import json
from typing import Any

import pandas as pd

from ttsv.controls.arms import Suite
from ttsv.metrics import metrics
from ttsv.study import Cell, read_history
from ttsv.tables import accuracy_of

RULE, LAST, HINDSIGHT = "by the rule", "last", "best in hindsight"


def updates_frame(suite: Suite) -> pd.DataFrame:
    """Return per seed and update of what was kept: accuracy with 95 % interval, box and truncation rate (percent), tokens and entropy.

    ``entropy`` (nats) and ``tokens`` are of the evaluated responses, ``rollout_entropy`` of the rollouts of that update. ``chosen`` names
    the update that the recipe's rule reports without labels, the last one, and the one with the best accuracy; the earliest of equals.
    """
    rows = [_row(cell) for cell in suite.by_update]
    frame = pd.DataFrame(rows).sort_values(["seed", "update"], ignore_index=True) if rows else pd.DataFrame()
    if frame.empty:
        return frame
    reported = {cell.seed: _reported(cell) for cell in suite.by_update}
    chosen = []
    for row in frame.to_dict("records"):
        of_seed = frame[frame["seed"] == row["seed"]]
        best = of_seed.loc[of_seed["accuracy"].idxmax(), "update"]
        names = {RULE: reported.get(row["seed"]), LAST: of_seed["update"].max(), HINDSIGHT: best}
        chosen.append(", ".join(name for name, update in names.items() if update == row["update"]))
    return frame.assign(chosen=chosen)


def _row(cell: Cell) -> dict[str, Any]:
    update = int(cell.setting("at_update"))
    accuracy, low, high = accuracy_of([cell])
    found = metrics(cell.samples)
    row: dict[str, Any] = {"seed": cell.seed, "update": update, "accuracy": accuracy, "low": low, "high": high}
    row |= {rate: 100 * found[rate] for rate in ("boxed", "truncated")}
    row |= {name: found[name] for name in ("tokens", "entropy")}
    history = read_history(cell.stages["adapt"]) if "adapt" in cell.stages else []
    of_update = [entry["entropy"] for entry in history if entry["update"] == update]
    return {**row, "rollout_entropy": sum(of_update) / len(of_update) if of_update else None}


def _reported(cell: Cell) -> int | None:
    """Return the update of the reported vector, as the adapt stage keeps it."""
    if "adapt" not in cell.stages:
        return None
    found = json.loads((cell.stages["adapt"] / "adaptation.json").read_text()).get("reported_update")
    return None if found is None else int(found)
