"""Published numbers beside reproduced ones: ``experiments/<claim>/published.csv`` against the study of the same name.

A published number is set beside full-scale runs of the same model, task and method and nothing else; mini runs never meet one.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.records import UserError
from ttsv.study import SHARED_FACTS, Cell, apart, distinct, rules
from ttsv.tables import accuracy_of

_NUMBER = re.compile(r"\d+(\.\d+)?")

COLUMNS = ("model", "task", "method", "adapt_task", "setting", "accuracy", "source", "note")

SOURCES = {
    "paper": "read off the paper's tables",
    "derived": "follows from the paper's averages and other columns",
    "release": "accuracy in the released files",
    "slot_paper": "SLOT's own table (arXiv 2505.12392), whose baselines differ",
    "not_available": "not at hand",
}
"""Where a published number is from; an empty source is a row of ours that the publication does not have."""

UNCHANGING = ("engine.", "seeds.")
"""Overrides that do not change what a cell claims to be."""

VARIABLES = {"prompt": "PROMPT", "recipe": "RECIPE"}
"""Facts that a make variable sets."""


def read_published(folder: Path) -> pd.DataFrame | None:
    """Return the published numbers of a claim, in percent, from its folder's ``published.csv``; None if there is no such file.

    ``adapt_task`` is empty where the method adapts on ``task``. ``setting`` holds words ``name=value`` that a run's facts, config or
    overrides must bear out. ``accuracy`` is NaN where ``source`` is ``not_available``.

    Raises:
        UserError: naming file, line and column, for other columns, an unknown source, or a number with or without its source.
    """
    file = folder / "published.csv"
    if not file.is_file():
        return None
    found = pd.read_csv(file, dtype=str, keep_default_na=False)
    if tuple(found.columns) != COLUMNS:
        raise UserError(f"{file} has columns {', '.join(found.columns)}; expected are {', '.join(COLUMNS)}")
    for line, row in enumerate(found.to_dict("records"), start=2):
        _check(f"{file}, line {line}", str(row["accuracy"]), str(row["source"]))
    return found.assign(accuracy=pd.to_numeric(found["accuracy"], errors="coerce"))


def _check(where: str, accuracy: str, source: str) -> None:
    if source not in SOURCES:
        raise UserError(f"{where}: source is {source!r}; expected is one of {', '.join(SOURCES)}")
    if (source == "not_available") != (accuracy == ""):
        raise UserError(
            f"{where}: accuracy {accuracy!r} with source {source}; not_available goes with an empty accuracy, and every other source "
            "with a number"
        )
    if accuracy and not (_NUMBER.fullmatch(accuracy) and float(accuracy) <= 100):
        raise UserError(f"{where}: accuracy is {accuracy!r}; expected is a number of percent, 0 to 100")


def beside(claim: str, published: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """Return a row per published number and set of conditions that it was reproduced under, or one row that says how to run it.

    Columns: those of :data:`COLUMNS` with ``published`` for ``accuracy``; ``reproduced`` (mean over seeds, percent), ``low``, ``high``,
    ``seeds``, ``n`` (problems), ``tokens`` (spent per problem), ``difference`` (points), ``conditions`` in words; ``command`` where
    nothing was run. Full-scale cells of the same models and tasks that no published number is of stand below those with one.
    """
    full = distinct([cell for cell in cells if cell.facts["scale"] == "full"], lambda cell: cell.label)
    rows: list[dict[str, Any]] = []
    met: set[int] = set()
    for line in published.rename(columns={"accuracy": "published"}).to_dict("records"):
        row = {str(name): value for name, value in line.items()}
        of_row = [cell for cell in full if _is_of(cell, row)]
        met |= {id(cell) for cell in of_row}
        reproduced = _reproduced(of_row) or [{"command": command(claim, row)}]
        rows += [{**row, **found} for found in reproduced]
    known = set(zip(published["model"], published["task"], strict=True))
    others = [c for c in full if id(c) not in met and (c.facts["model"], c.facts["task"]) in known]
    for of_method in apart(others, lambda cell: [cell.facts["model"], cell.facts["task"], cell.label]):
        facts = of_method[0].facts
        own = {"model": facts["model"], "task": facts["task"], "method": of_method[0].label, "note": "not published"}
        rows += [{**own, **found} for found in _reproduced(of_method)]
    words = ["adapt_task", "setting", "source", "conditions", "command"]
    numbers = ("published", "reproduced", "low", "high", "difference", "seeds", "n", "tokens")
    table = pd.DataFrame(rows, columns=[*(c for c in COLUMNS if c != "accuracy"), *numbers, "conditions", "command"])
    table["difference"] = table["reproduced"].astype(float) - table["published"].astype(float)
    table[words] = table[words].astype(object).fillna("")
    return table


def command(claim: str, row: dict[str, Any]) -> str:
    """Return the command that fills a row of the table."""
    target = "reproduce-math500" if claim == "math500" else claim.replace("_", "-")
    words = [word.partition("=") for word in str(row["setting"]).split()]
    overrides = [f"{name}={value}" for name, _, value in words if name not in VARIABLES]
    if row["adapt_task"] not in ("", row["task"]):
        overrides.append(f"task@adapt_task={row['adapt_task']}")
    parts = [f"make {target}", f"MODEL={row['model']}", f"TASK={row['task']}", f"METHOD={row['method']}"]
    parts += [f"{VARIABLES[name]}={value}" for name, _, value in words if name in VARIABLES]
    if overrides:
        arguments = " ".join(overrides)
        parts.append(f'ARGS="{arguments}"' if shlex.quote(arguments) != arguments else f"ARGS={arguments}")
    return " ".join([*parts, "SCALE=full"])


def _is_of(cell: Cell, row: dict[str, Any]) -> bool:
    """Tell whether a full-scale cell is a run of what a published row is about."""
    if any(cell.facts[name] != row[name] for name in ("model", "task", "method")) or cell.aggregate != "mean":
        return False
    adapted_on = cell.adapt_task or cell.facts["task"]
    if adapted_on != (row["adapt_task"] or row["task"]) and cell.method != "none":
        return False
    changed = {w for w in cell.variant.removesuffix(f"adapted on {adapted_on}").split() if not w.startswith(UNCHANGING)}
    setting = set(str(row["setting"]).split())
    return changed <= setting and all(word in changed or _holds(cell, word) for word in setting)


def _holds(cell: Cell, word: str) -> bool:
    name, _, value = word.partition("=")
    found = cell.setting(name)
    return found is not None and str(found) == value


def _reproduced(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return what was measured, a row per set of conditions: the seeds of one set are averaged."""
    groups = apart(cells, lambda cell: [[cell.facts[name] for name in SHARED_FACTS], cell.facts.get("options")])
    words = [_conditions(group[0]) for group in groups]
    rows = []
    for group, conditions in zip(groups, words, strict=True):
        if words.count(conditions) > 1:
            facts = group[0].facts
            conditions += f" [evaluation {str(facts['evaluation'])[:4]}, options {str(facts['options'])[:4]}]"
        accuracy, low, high = accuracy_of(group)
        measured = {"reproduced": accuracy, "low": low, "high": high, "seeds": len({cell.seed for cell in group})}
        tokens = sum(cell.tokens_per_problem for cell in group) / len(group)
        rows.append(
            {**measured, "n": group[0].samples["problem_id"].nunique(), "tokens": tokens, "conditions": conditions}
        )
    return rows


def _conditions(cell: Cell) -> str:
    facts = cell.facts
    subset = f"a seeded subset of {facts['limit']} problems" if facts["limit"] else ""
    return ", ".join(filter(None, [rules(facts), subset]))
