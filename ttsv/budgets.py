"""Methods at a comparable token budget: accuracy beside what each answer cost, whatever the evaluation's settings."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ttsv.metrics import MAJORITY
from ttsv.study import SHARED_FACTS, Cell, apart, distinct, half_of
from ttsv.tables import accuracy_of

SAME_PROBLEMS = ("model", "task", "scale", "grader", "limit", "problems", "weights", "grader_config")
"""What cells share whose accuracies can stand side by side, though they were asked or sampled differently."""


def budgets(cells: Sequence[Cell]) -> list[tuple[str, pd.DataFrame]]:
    """Return a title and a frame for each set of problems that was answered under several settings of sampling or aggregation.

    A row per method and setting, cheapest first: ``method``, ``samples`` a problem, ``temperature`` (None where the model's own
    configuration decides), ``prompt``, ``half`` (of the problems that were optimised on, in words; empty where all were), ``conditions``,
    ``seeds``, ``tokens`` (rollout + loss + evaluated responses, per problem), ``of_ttsv`` (that, as a multiple of what ``ttsv`` spends on
    all problems; NaN without it), ``accuracy``, ``low``, ``high`` (percent).
    """
    found = []
    for problems in apart(cells, lambda cell: [cell.facts[name] for name in SAME_PROBLEMS]):
        samples = {_samples(cell) for cell in problems}
        temperatures = {_temperature(cell) for cell in problems} - {None}
        if len(samples) > 1 or len(temperatures) > 1 or any(cell.aggregate == MAJORITY for cell in problems):
            facts = problems[0].facts
            mini = ", mini scale" if facts["scale"] == "mini" else ""
            found.append((f"Accuracy by tokens spent: {facts['model']} on {facts['task']}{mini}", _frame(problems)))
    return found


def _frame(cells: Sequence[Cell]) -> pd.DataFrame:
    settings = apart(
        distinct(cells, lambda cell: cell.label),
        lambda cell: [[cell.facts[name] for name in SHARED_FACTS], cell.label, cell.facts.get("options")],
    )
    frame = pd.DataFrame([_row(of_setting) for of_setting in settings]).sort_values("tokens", ignore_index=True)
    ttsv = frame.loc[(frame["method"] == "ttsv") & (frame["half"] == ""), "tokens"]
    return frame.assign(of_ttsv=frame["tokens"] / ttsv.iloc[0] if len(ttsv) else float("nan"))


def _row(cells: Sequence[Cell]) -> dict[str, Any]:
    first = cells[0]
    accuracy, low, high = accuracy_of(cells)
    return {
        "method": first.label,
        "samples": _samples(first),
        "temperature": _temperature(first),
        "prompt": first.facts["prompt"],
        "half": half_of(first.facts),
        "conditions": first.facts["conditions"] or "",
        "seeds": len(cells),
        "tokens": sum(cell.tokens_per_problem for cell in cells) / len(cells),
        "accuracy": accuracy,
        "low": low,
        "high": high,
    }


def _samples(cell: Cell) -> int:
    return int(cell.samples.groupby("problem_id").size().min())


def _temperature(cell: Cell) -> float | None:
    if cell.setting("recipe.evaluation.sampling_from") == "generation_config":
        return None
    temperature = cell.setting("recipe.evaluation.decoding.sampling.temperature")
    return None if temperature is None else float(temperature)
