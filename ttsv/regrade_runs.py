"""Grade finished runs again, as new grading stages beside the old ones: nothing is generated anew and nothing is overwritten."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.grading import SAMPLES, configuration, grade
from ttsv.records import Problem, UserError
from ttsv.scoring import Grader
from ttsv.store import Store, digest, open_stage, read_manifest, record_name, write_atomically


def record_files(path: Path) -> list[Path]:
    """Return the run records that ``path`` names: one record, or all of a study's folder.

    Raises:
        UserError: if there is none.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    if not files:
        raise UserError(f"{path} holds no run records; give results/runs/STUDY, or one of the .json files in it")
    return files


def regrade(file: Path, make: Callable[[float | None], Grader]) -> tuple[Path, pd.DataFrame]:
    """Grade the run of a record under the grader that ``make`` returns for the tolerance of the run's task.

    Returns the new record's file and the graded samples.

    Raises:
        UserError: if the record or one of its stages is unreadable, or the run was not graded before.
    """
    record, results = _read(file)
    store, grader = Store(results / "stages"), make(_tolerance(record))
    generation = open_stage(store.root / record["stages"]["generate"])
    problems = _problems(_samples(store, record), str(record["facts"]["task"]))
    outcome = grade(store, generation, problems, grader, lambda: {"regraded_from": file.name})
    record["facts"] = {**record["facts"], "grader": grader.name, "grader_config": digest(configuration(grader))[:16]}
    kept = {name: path for name, path in record["stages"].items() if name != "reread"}  # verdicts of the other grader
    record["stages"] = {**kept, "grade": outcome.stage.path.relative_to(store.root).as_posix()}
    name = record_name(file.stem.rpartition("-")[0], record["facts"])
    write_atomically(file.with_name(name), json.dumps(record, indent=1))
    return file.with_name(name), pd.read_parquet(outcome.stage.path / SAMPLES)


def sample(file: Path, number: int) -> tuple[str, str, float | None]:
    """Return gold and completion of row ``number`` (from 0) of a run, and the tolerance of its task.

    Raises:
        UserError: if there is no such row, or the record cannot be read.
    """
    record, results = _read(file)
    samples = _samples(Store(results / "stages"), record)
    if not 0 <= number < len(samples):
        raise UserError(f"{file} has rows 0 to {len(samples) - 1}, not {number}")
    row = samples.iloc[number]
    return str(row["gold"]), str(row["text"]), _tolerance(record)


def _tolerance(record: dict[str, Any]) -> float | None:
    """Return the relative tolerance that the run's task states, None where it states none."""
    tolerance = record.get("config", {}).get("task", {}).get("relative_tolerance")
    return None if tolerance is None else float(tolerance)


def _read(file: Path) -> tuple[dict[str, Any], Path]:
    try:
        record = json.loads(file.read_text())
        if "generate" not in record["stages"] or "grade" not in record["stages"]:
            raise UserError(f"{file} was stopped before grading (stop_after); finish its run first")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is not a readable run record ({error!r}); give results/runs/STUDY or a record in it"
        ) from error
    return record, file.resolve().parents[2]


def _samples(store: Store, record: dict[str, Any]) -> pd.DataFrame:
    folder = store.root / record["stages"]["grade"]
    read_manifest(folder)
    return pd.read_parquet(folder / SAMPLES)


def _problems(samples: pd.DataFrame, task: str) -> list[Problem]:
    rows = samples.drop_duplicates("problem_id").to_dict("records")
    return [
        Problem(r["problem_id"], r["question"], r["gold"], task, r["subject"] or None, r["level"] or None) for r in rows
    ]
