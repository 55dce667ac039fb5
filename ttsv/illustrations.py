"""Which figures the runs of a study allow, and the frames that these are drawn from."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from ttsv.budgets import budgets
from ttsv.collapse import detect
from ttsv.figures.curves import accuracy_curves, entropy_curves
from ttsv.figures.layers import embedding_map, layer_drift
from ttsv.figures.settings import accuracy_against, accuracy_by_tokens, dots
from ttsv.figures.transfer import HeatMap, heat_maps
from ttsv.store import slug
from ttsv.study import Cell, apart, distinct, half_of, read_history
from ttsv.tables import accuracy_of
from ttsv.transfer import transfers

FAMILY = ("model", "task", "scale", "prompt", "grader", "limit", "adapt_on", "problems", "weights")
"""What the cells of one figure share; recipe and evaluation may be what the figure is about."""

LENGTH, INITIALIZATION, LADDER, UPDATE = (
    "recipe.optimization.length",
    "recipe.optimization.initialization",
    "ladder",
    "at_update",
)

MAPPED = 100
"""Problems of a cell that are put into a t-SNE picture, the first ones."""

Drawing = tuple[str, str, Callable[[Path], None]]
"""A figure's name, its title, and what draws it."""


def illustrate(cells: Sequence[Cell], folder: Path) -> list[tuple[Path, str]]:
    """Draw every figure that the cells allow as ``<folder>/<name>.png`` and ``.svg``; return the paths without ending, and the titles."""
    drawn: dict[Path, str] = {}
    for name, title, draw in _drawings(cells):
        # A name's dots would be taken for its ending.
        path = folder / slug(name).replace(".", "-")
        if path in drawn:
            path = path.with_name(f"{path.name}-{len(drawn)}")
        draw(path)
        drawn[path] = title
    return list(drawn.items())


def _drawings(cells: Sequence[Cell]) -> Iterator[Drawing]:
    yield from _transfers(cells)
    for of_model in apart(
        cells, lambda c: [[c.facts[n] for n in FAMILY if n not in ("task", "problems")], c.adapt_task]
    ):
        yield from _entropy(of_model)
    for family in apart(cells, lambda cell: [cell.facts[name] for name in FAMILY]):
        yield from _by_update(family)
        yield from _lengths(family)
        yield from _rows(family, INITIALIZATION, "Initialisations")
        yield from _rows(family, LADDER, "From the released code to recipe=corrected")
        yield from _drift(family)
    for of_model in apart(cells, lambda c: [c.facts["model"], c.facts["scale"], c.facts["prompt"]]):
        yield from _map(of_model)
    for title, frame in budgets(cells):
        yield from _tokens(title, frame)


def _titled(what: str, facts: dict[str, Any], task: str | None = None) -> tuple[str, str]:
    """Return a file name and a title; mini runs, and vectors of one half of the problems, are named so in both."""
    mini, half = facts["scale"] == "mini", half_of(facts)
    name = "-".join(
        filter(None, [what, str(facts["model"]), task, half and str(facts["adapt_on"]), "mini" if mini else ""])
    )
    where = ", ".join(filter(None, [str(facts["model"]), task, half]))
    return name, f"{where}{' (mini scale)' if mini else ''}"


def _transfers(cells: Sequence[Cell]) -> Iterator[Drawing]:
    for transfer in transfers(cells):
        name, where = _titled(f"transfer-{transfer.method}", transfer.facts)
        seeds = int(transfer.frame["seeds"].max())
        title = f"Transfer of {transfer.method}: {where}, {seeds} seed{'s' if seeds > 1 else ''}"
        maps = [
            HeatMap("accuracy, %", transfer.matrix("accuracy"), ".0f", signed=False),
            HeatMap("gain over none, points", transfer.matrix("gain"), "+.1f", signed=True),
            HeatMap("gain relative to none, %", transfer.matrix("relative"), "+.0f", signed=True),
        ]
        yield name, title, partial(heat_maps, maps, title)


def _entropy(cells: Sequence[Cell]) -> Iterator[Drawing]:
    """The course of every adaptation once, whatever it was evaluated on."""
    lines, seen = [], set()
    for cell in sorted(cells, key=lambda c: (c.method, c.variant, c.seed)):
        stage = cell.stages.get("adapt")
        history = read_history(stage) if stage is not None and stage not in seen else []
        seen.add(stage)
        if history:
            line = pd.DataFrame(history).groupby("update", as_index=False)["entropy"].mean()
            label = _label(cell, UPDATE).replace(f"adapted on {cell.adapt_task}", "").replace(" ()", "")
            lines.append(line.assign(label=label, run=str(stage), collapsed=line["update"] == _collapse(history)))
    if lines:
        name, where = _titled("entropy", cells[0].facts, cells[0].adapt_task)
        title = f"Entropy while optimising\n{where}"
        yield name, title.replace("\n", ": "), lambda path: entropy_curves(pd.concat(lines), title, path)


def _collapse(history: Sequence[dict[str, Any]]) -> int | None:
    """Return the update at which a collapse was noticed; problems that were optimised apart are not looked at."""
    if any("group" in row for row in history):
        return None
    return next((history[n - 1]["update"] for n in range(1, len(history) + 1) if detect(history[:n])), None)


def _by_update(cells: Sequence[Cell]) -> Iterator[Drawing]:
    frame = _measured([cell for cell in cells if cell.facts.get(UPDATE) is not None], UPDATE)
    if frame["value"].nunique() > 1:
        name, where = _titled("accuracy-by-update", cells[0].facts, cells[0].facts["task"])
        title, shown = f"Accuracy while optimising\n{where}", frame.assign(update=frame["value"].astype(int))
        yield name, title.replace("\n", ": "), lambda path: accuracy_curves(shown, _none(cells), title, path)


def _lengths(cells: Sequence[Cell]) -> Iterator[Drawing]:
    frame = _measured([cell for cell in cells if _word(cell, LENGTH)], LENGTH)
    if frame["value"].nunique() > 1:
        name, where = _titled("length", cells[0].facts, cells[0].facts["task"])
        title, shown = f"Accuracy by length\n{where}", frame.assign(x=frame["value"].astype(int))
        axis = "virtual tokens L"
        yield name, title.replace("\n", ": "), lambda path: accuracy_against(shown, _none(cells), axis, title, path)


def _rows(cells: Sequence[Cell], name: str, what: str) -> Iterator[Drawing]:
    frame = _measured([cell for cell in cells if _word(cell, name)], name)
    if frame["value"].nunique() > 1:
        file, where = _titled(name.rpartition(".")[2], cells[0].facts, cells[0].facts["task"])
        title, none = f"{what}\n{where}", _none(cells)
        if len({cell.facts["evaluation"] for cell in cells if cell.method == "none"}) > 1:
            frame, none = pd.concat([_none_by_setting(cells, name), frame]), None
        shown = frame.rename(columns={"value": "setting"}).sort_values("setting", kind="stable")
        yield file, title.replace("\n", ": "), lambda path: dots(shown, none, title, path)


def _none_by_setting(cells: Sequence[Cell], name: str) -> pd.DataFrame:
    """Return the accuracy of the model alone at the first setting of each way to evaluate, for settings that change the evaluation."""
    rows = []
    for evaluated in apart(cells, lambda cell: cell.facts["evaluation"]):
        alone = [cell for cell in evaluated if cell.method == "none"]
        values = sorted(_value(cell, name) for cell in evaluated if _word(cell, name))
        if alone and values:
            accuracy, low, high = accuracy_of(alone[:1])
            rows.append({"label": "none", "value": values[0], "accuracy": accuracy, "low": low, "high": high})
    return pd.DataFrame(rows)


def _drift(cells: Sequence[Cell]) -> Iterator[Drawing]:
    moved = [cell for cell in cells if "activations" in cell.stages and cell.method != "none"]
    if moved:
        frames = [pd.read_parquet(c.stages["activations"] / "drift.parquet").assign(method=c.label) for c in moved]
        name, where = _titled("drift", cells[0].facts, cells[0].facts["task"])
        title = f"Shift of the prompt's hidden states\n{where}"
        yield name, title.replace("\n", ": "), lambda path: layer_drift(pd.concat(frames), path, title)


def _map(cells: Sequence[Cell]) -> Iterator[Drawing]:
    """Where the last token's last hidden states lie, in one t-SNE plane for all tasks and methods."""
    shown = [cell for cell in cells if "activations" in cell.stages]
    if shown:
        parts = [
            pd.read_parquet(c.stages["activations"] / "states.parquet")
            .head(MAPPED)
            .assign(group=c.facts["task"], kind=c.label)
            for c in distinct(shown, lambda cell: (cell.label, cell.facts["task"]))
        ]
        states = pd.concat(parts, ignore_index=True)
        name, where = _titled("states", cells[0].facts)
        title = f"t-SNE of the prompts' last hidden states\n{where}; colour: task, marker: method"
        yield name, title.replace("\n", ": "), lambda path: embedding_map(_plane(states), path, title)


def _plane(states: pd.DataFrame) -> pd.DataFrame:
    from sklearn.manifold import TSNE  # loaded only where a study measured activations: it takes seconds

    vectors = np.stack(states["state"].to_list())
    # Threads that wait for each other on a busy machine take ten times as long.
    with threadpool_limits(1):
        found = TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=0).fit_transform(vectors)
    return states.assign(x=found[:, 0], y=found[:, 1])


def _tokens(title: str, frame: pd.DataFrame) -> Iterator[Drawing]:
    def words(row: Mapping[Hashable, Any]) -> str:
        heat = "" if pd.isna(row["temperature"]) else f", T {row['temperature']:g}"
        count = f"{row['samples']} sample{'s' if row['samples'] > 1 else ''}{heat}"
        return ", ".join(filter(None, [f"{row['method']}: {count}", str(row["prompt"]), str(row["half"])]))

    shown = frame.assign(label=[words(row) for row in frame.to_dict("records")])
    yield title, title, lambda path: accuracy_by_tokens(shown, title.replace(": ", "\n", 1), path)


def _measured(cells: Sequence[Cell], name: str) -> pd.DataFrame:
    """Return accuracy with interval per method (``label``, without the setting ``name``) and ``value`` of the setting."""
    chosen = distinct(cells, lambda cell: cell.label)
    rows = []
    for of_value in apart(chosen, lambda cell: [_label(cell, name), _value(cell, name), cell.facts.get("options")]):
        accuracy, low, high = accuracy_of(of_value)
        row = {"label": _label(of_value[0], name), "value": _value(of_value[0], name)}
        rows.append({**row, "accuracy": accuracy, "low": low, "high": high})
    columns = ["label", "value", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=columns).sort_values("label", kind="stable", ignore_index=True)


def _none(cells: Sequence[Cell]) -> float | None:
    """Return the accuracy of the model alone over its seeds, in the first way in which it was evaluated."""
    ways = apart((c for c in cells if c.method == "none"), lambda cell: [cell.facts["evaluation"], cell.aggregate])
    return accuracy_of(distinct(ways[0], lambda cell: cell.label))[0] if ways else None


def _word(cell: Cell, name: str) -> str | None:
    return next((word for word in cell.variant.split() if word.startswith(f"{name}=")), None)


def _value(cell: Cell, name: str) -> Any:
    word = _word(cell, name)
    return word.partition("=")[2] if word else cell.setting(name)


def _label(cell: Cell, name: str) -> str:
    """Return the cell's label without the override of one setting."""
    word = _word(cell, name)
    return cell.label.replace(word, "").replace("( ", "(").replace(" )", ")").replace(" ()", "") if word else cell.label
