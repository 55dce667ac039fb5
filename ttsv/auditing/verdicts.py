"""Every released completion graded again, beside the released verdict: a row per completion."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ttsv.auditing.readings import READINGS
from ttsv.auditing.release_files import ReleasedRow
from ttsv.auditing.traits import traits_of
from ttsv.records import UserError
from ttsv.scoring import Grader, MathVerifyGrader, ReleaseGrader

GRADERS: tuple[Grader, ...] = (ReleaseGrader(), MathVerifyGrader())
VERDICTS = ("released", *(grader.name for grader in GRADERS))
"""Columns of verdicts: the one in the file, then one for each of our graders."""

Settled = Mapping[tuple[str, str], tuple[bool, str]]
"""From folder and idx to the verdict settled by hand and its reason."""


def graded(rows: Sequence[ReleasedRow], cap: int) -> pd.DataFrame:
    """Return the completions with verdicts, answers, traits (columns ``trait: <name>``) and length in characters.

    A grader's columns are ``<grader>`` (its verdict), ``<grader> answer``, ``<grader> flag`` and ``<grader> why``.
    """
    frame = pd.DataFrame(
        {
            "line": [row.line for row in rows],
            "sample": [row.sample for row in rows],
            "idx": [row.idx for row in rows],
            "question": [row.question for row in rows],
            "level": [row.level for row in rows],
            "gold": [row.gold for row in rows],
            "released answer": [row.prediction for row in rows],
            "released": [row.released for row in rows],
            "characters": [len(row.completion) for row in rows],
            "output blocks": [row.completion.count("```output") for row in rows],
        }
    )
    for grader in GRADERS:
        verdicts = grader.grade(list(frame["gold"]), [row.completion for row in rows])
        frame[grader.name] = [verdict.correct for verdict in verdicts]
        for field in ("answer", "flag", "why"):
            frame[f"{grader.name} {field}"] = [getattr(verdict, field) for verdict in verdicts]
    traits = pd.DataFrame([traits_of(row.completion, cap) for row in rows])
    return pd.concat([frame, traits.add_prefix("trait: ")], axis=1)


def reread(rows: Sequence[ReleasedRow], frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row per reading and completion that it shortens, with each grader's verdict before and after the cut."""
    parts = []
    for reading in READINGS:
        cut = [(place, reading.cut(row.completion)) for place, row in enumerate(rows)]
        shortened = [(place, text) for place, text in cut if text.rstrip() != rows[place].completion.rstrip()]
        places = [place for place, _ in shortened]
        part = frame.loc[places, ["line", "sample", "idx"]].copy()
        part.insert(0, "reading", reading.name)
        for grader in GRADERS:
            verdicts = grader.grade([rows[place].gold for place in places], [text for _, text in shortened])
            part[f"{grader.name} before"] = frame.loc[places, grader.name]
            part[f"{grader.name} after"] = [verdict.correct for verdict in verdicts]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def read_settled(path: Path) -> Settled:
    """Return the differences that were settled by hand (JSON lines with model, idx, verdict and reason).

    Raises:
        UserError: naming the line that cannot be used.
    """
    settled: dict[tuple[str, str], tuple[bool, str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            case = json.loads(line)
            settled[str(case["model"]), str(case["idx"])] = bool(case["verdict"]), str(case["reason"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}:{number}: expected an object with model, idx, verdict and reason, got {line[:60]!r} ({error!r})"
            ) from error
    return settled


def disagreements(frame: pd.DataFrame, label: str, settled: Settled) -> pd.DataFrame:
    """Return the completions on which the three verdicts are not one, with the verdict settled by hand and its reason, if any."""
    differ = frame.loc[frame[list(VERDICTS)].nunique(axis=1) > 1].copy()
    decided = [settled.get((label, str(idx)), (None, "")) for idx in differ["idx"]]
    differ["settled"] = [verdict for verdict, _ in decided]
    differ["reason"] = [reason for _, reason in decided]
    return differ
