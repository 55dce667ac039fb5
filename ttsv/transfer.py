"""Transfer: vectors of each task, evaluated on every task, from graded samples alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from ttsv.study import Cell, apart, distinct
from ttsv.tables import accuracy_of

SAME_MODEL = (
    "model",
    "prompt",
    "recipe",
    "scale",
    "grader",
    "limit",
    "adapt_on",
    "conditions",
    "weights",
    "device",
    "prompt_config",
    "grader_config",
)
"""What cells of one matrix share; evaluation options are in ``conditions``, since ``evaluation`` would also tell tasks apart."""


@dataclass(frozen=True)
class Transfer:
    """The matrices of one method: a row of ``frame`` per pair of tasks.

    ``frame`` has ``adapt_task``, ``task``, ``accuracy``, ``low``, ``high`` (percent), ``gain`` (points over none), ``relative`` (percent of
    none's accuracy; NaN where that is 0) and ``seeds``. ``own`` is how much better, in points, a task does under its own vectors than under
    the others' on average, with its interval; None where no task was evaluated under both.
    """

    facts: dict[str, Any]
    method: str
    frame: pd.DataFrame
    own: tuple[float, float, float] | None

    def matrix(self, value: str) -> pd.DataFrame:
        """Return a column of the frame as a matrix, adaptation tasks by evaluation tasks; NaN where a cell is missing."""
        tasks = sorted({*self.frame["task"], *self.frame["adapt_task"]})
        return self.frame.pivot(index="adapt_task", columns="task", values=value).reindex(index=tasks, columns=tasks)


def transfers(cells: Sequence[Cell]) -> list[Transfer]:
    """Return the matrices of every method of which a vector met another task than its own."""
    found = []
    for family in apart(cells, lambda cell: [cell.facts[name] for name in SAME_MODEL]):
        none = distinct([cell for cell in family if cell.method == "none"], lambda cell: cell.facts["task"])
        adapting = distinct([cell for cell in family if cell.adapt_task], lambda cell: cell.label)
        for of_method in apart(adapting, lambda cell: [_name(cell), cell.facts.get("options")]):
            if any(cell.adapt_task != cell.facts["task"] for cell in of_method):
                found.append(
                    Transfer(dict(family[0].facts), _name(of_method[0]), _frame(of_method, none), _own(of_method))
                )
    return found


def _name(cell: Cell) -> str:
    """Return the cell's label without the task that it was adapted on."""
    variant = cell.variant.removesuffix(f"adapted on {cell.adapt_task}").strip()
    return f"{cell.method} ({variant})" if variant else cell.method


def _before(pair: Sequence[Cell], none: Sequence[Cell]) -> float:
    """Return the accuracy of the model alone, percent: under the seeds of these cells where it was run under them, else under all."""
    alone = [c for c in none if c.facts["task"] == pair[0].facts["task"] and c.aggregate == pair[0].aggregate]
    of_seeds = [cell for cell in alone if cell.seed in {c.seed for c in pair}]
    return accuracy_of(of_seeds or alone)[0] if alone else float("nan")


def _frame(cells: Sequence[Cell], none: Sequence[Cell]) -> pd.DataFrame:
    rows = []
    for pair in apart(cells, lambda cell: [cell.adapt_task, cell.facts["task"]]):
        task = str(pair[0].facts["task"])
        accuracy, low, high = accuracy_of(pair)
        before = _before(pair, none)
        gain = accuracy - before
        rows.append(
            {
                "adapt_task": pair[0].adapt_task,
                "task": task,
                "accuracy": accuracy,
                "low": low,
                "high": high,
                "gain": gain,
                "relative": 100 * gain / before if before else float("nan"),
                "seeds": len(pair),
            }
        )
    return pd.DataFrame(rows).sort_values(["adapt_task", "task"], ignore_index=True)


def _own(cells: Sequence[Cell]) -> tuple[float, float, float] | None:
    """Return the mean over tasks of (own vectors - others' vectors), in points, with a 95 % interval.

    The tasks are taken as given and their problems as drawn: the squared standard errors of the tasks' mean differences per problem are
    added. Seeds are averaged per problem. A normal interval, too short where very few problems differ.
    """
    means, squared_errors = [], []
    for on_task in apart(cells, lambda cell: cell.facts["task"]):
        own = [cell.scores("all") for cell in on_task if cell.adapt_task == cell.facts["task"]]
        others = [
            pd.concat([cell.scores("all") for cell in of_vector], axis=1).mean(axis=1)
            for of_vector in apart(
                [cell for cell in on_task if cell.adapt_task != cell.facts["task"]], lambda cell: cell.adapt_task
            )
        ]
        if own and others:
            difference = pd.concat(own, axis=1).mean(axis=1) - pd.concat(others, axis=1).mean(axis=1)
            means.append(difference.mean())
            squared_errors.append(difference.var(ddof=1) / len(difference) if len(difference) > 1 else float("nan"))
    if not means:
        return None
    centre, half = float(np.mean(means)), float(norm.ppf(0.975) * np.sqrt(np.sum(squared_errors)) / len(means))
    return 100 * centre, 100 * (centre - half), 100 * (centre + half)
