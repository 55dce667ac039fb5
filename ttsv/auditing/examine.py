"""From the files of one folder to what was found in it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.auditing.findings import CompletionFindings, FolderFindings
from ttsv.auditing.rates import rates
from ttsv.auditing.release_files import ReleasedRow, ReleaseFolder, read_completions, read_metrics
from ttsv.auditing.tool_outputs import tool_outputs
from ttsv.auditing.vectors import examine_vector
from ttsv.auditing.verdicts import Settled, disagreements, graded, reread
from ttsv.records import UserError
from ttsv.soft_prompt import load_soft_prompt


def examine(folder: ReleaseFolder, cap: int, data_dir: Path | None, settled: Settled) -> FolderFindings:
    """Return what the files of ``folder`` show; ``cap`` is the generation cap in tokens, ``data_dir`` holds ``<task>/test.jsonl``.

    Raises:
        UserError: naming the file that cannot be used.
    """
    vector = None if folder.vector is None else examine_vector(load_soft_prompt(folder.vector).vectors.numpy())
    if folder.completions is None:
        return FolderFindings(folder, vector, None)
    rows = read_completions(folder.completions)
    frame = graded(rows, cap)
    found = _add_subjects(frame, task_file(folder, data_dir))
    completions = CompletionFindings(
        rows=frame,
        rates=rates(folder.name, frame),
        disagreements=disagreements(frame, folder.label, settled),
        readings=reread(rows, frame),
        outputs=_outputs(rows),
        metrics=read_metrics(folder.metrics) if folder.metrics else {},
        problems_found=found,
    )
    return FolderFindings(folder, vector, completions)


def task_file(folder: ReleaseFolder, data_dir: Path | None) -> Path | None:
    """Return the task data of a folder named ``<model>_<task>``, None where ``data_dir`` is None or holds none for it."""
    if data_dir is None:
        return None
    file = data_dir / folder.label.rpartition("_")[2] / "test.jsonl"
    return file if file.is_file() else None


def _add_subjects(frame: pd.DataFrame, file: Path | None) -> int | None:
    """Set ``subject`` and fill ``level`` from the task data, by question; return how many questions have the same gold there."""
    frame["subject"] = None
    if file is None:
        return None
    problems = _problems(file)
    known = [problems.get(question, {}) for question in frame["question"]]
    frame["subject"] = [problem.get("subject") for problem in known]
    levels = [problem.get("level") for problem in known]
    frame["level"] = frame["level"].where(
        frame["level"].notna(), pd.Series([None if level is None else str(level) for level in levels], dtype=object)
    )
    return sum(bool(str(problem.get("answer")) == gold) for problem, gold in zip(known, frame["gold"], strict=True))


def _problems(file: Path) -> Mapping[str, Mapping[str, Any]]:
    problems: dict[str, Mapping[str, Any]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            problems[str(row["problem"] if "problem" in row else row["question"])] = row
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}:{number}: expected an object with problem or question ({error!r})") from error
    return problems


def _outputs(rows: Sequence[ReleasedRow]) -> pd.DataFrame:
    columns = ["line", "sample", "idx", "block", "status", "program", "output", "computed"]
    found = [
        (row.line, row.sample, row.idx, block, pair.status, pair.program, pair.output, pair.computed)
        for row in rows
        for block, pair in enumerate(tool_outputs(row.completion), start=1)
    ]
    return pd.DataFrame(found, columns=columns)
