"""The audit's numbers as files: CSV for frames, JSON lines where a row holds text of several lines."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.auditing.findings import CompletionFindings, FolderFindings, refuted_outputs
from ttsv.auditing.traits import TRAITS
from ttsv.auditing.verdicts import GRADERS, VERDICTS

FILES = {
    "inputs.csv": "every file read, its size and SHA-256",
    "initializations.csv": "correlation and drift of each vector against each candidate initialisation",
    "vector_rows.csv": "the rows of each vector: norms, correlation and movement against the best candidate",
    "vector_summary.csv": "the numbers of each vector as a whole",
    "completions.csv": "every completion: line, idx, level, subject, gold, answers, verdicts and traits (1 or 0)",
    "rates.csv": "every share and accuracy with its count and Wilson interval",
    "disagreements.jsonl": "every completion on which the three verdicts are not one, with reasons",
    "readings.csv": "every completion whose verdict changes where it is cut",
    "tool_outputs.csv": "every output block below a program, and whether arithmetic confirms it",
    "tool_outputs_refuted.jsonl": "the programs whose output contradicts them: by arithmetic, or because they do not parse",
}
"""The files of an audit and what each holds."""


def write_tables(out: Path, inputs: Sequence[dict[str, Any]], findings: Sequence[FolderFindings]) -> None:
    """Write ``FILES`` into ``out``; the same findings give the same bytes."""
    frames = {
        "inputs.csv": pd.DataFrame(inputs),
        "initializations.csv": _vectors(findings, lambda vector: vector.candidates),
        "vector_rows.csv": _vectors(findings, lambda vector: vector.rows),
        "vector_summary.csv": _vectors(
            findings,
            lambda vector: pd.DataFrame([{"best_candidate": vector.best, "matched": vector.matched, **vector.summary}]),
        ),
        "completions.csv": _completions(findings, _completion_columns),
        "rates.csv": _completions(findings, lambda found: found.rates.drop(columns="folder")),
        "readings.csv": _completions(findings, _changed_readings),
        "tool_outputs.csv": _completions(
            findings, lambda found: found.outputs[["line", "sample", "idx", "block", "status"]]
        ),
    }
    for name, frame in frames.items():
        frame.to_csv(out / name, index=False, float_format="%.8g", lineterminator="\n")
    texts = {
        "disagreements.jsonl": _completions(findings, _disagreement_columns),
        "tool_outputs_refuted.jsonl": _completions(findings, refuted_outputs),
    }
    for name, frame in texts.items():
        frame.to_json(out / name, orient="records", lines=True, force_ascii=False)


def _vectors(findings: Sequence[FolderFindings], frame: Callable[[Any], pd.DataFrame]) -> pd.DataFrame:
    parts = [(found.folder.name, frame(found.vector)) for found in findings if found.vector is not None]
    return _joined(parts)


def _completions(
    findings: Sequence[FolderFindings], frame: Callable[[CompletionFindings], pd.DataFrame]
) -> pd.DataFrame:
    parts = [(found.folder.name, frame(found.completions)) for found in findings if found.completions is not None]
    return _joined(parts)


def _joined(parts: Sequence[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    labelled = [part.assign(folder=folder)[["folder", *part.columns]] for folder, part in parts]
    return pd.concat(labelled, ignore_index=True) if labelled else pd.DataFrame()


def _completion_columns(found: CompletionFindings) -> pd.DataFrame:
    traits = [f"trait: {trait.name}" for trait in TRAITS]
    answers = ["released answer", *(f"{grader.name} answer" for grader in GRADERS)]
    flags = [f"{grader.name} flag" for grader in GRADERS]
    columns = [
        "line",
        "sample",
        "idx",
        "level",
        "subject",
        "gold",
        *answers,
        *VERDICTS,
        *flags,
        "characters",
        "output blocks",
        *traits,
    ]
    return found.rows[columns].astype({name: int for name in (*VERDICTS, *traits)})


def _disagreement_columns(found: CompletionFindings) -> pd.DataFrame:
    ours = [f"{grader.name} {field}" for grader in GRADERS for field in ("answer", "flag", "why")]
    return found.disagreements[
        ["line", "sample", "idx", "gold", "released answer", *VERDICTS, *ours, "settled", "reason"]
    ]


def _changed_readings(found: CompletionFindings) -> pd.DataFrame:
    changed = pd.concat(
        [found.readings[f"{grader.name} before"] != found.readings[f"{grader.name} after"] for grader in GRADERS],
        axis=1,
    ).any(axis=1)
    verdicts = [f"{grader.name} {when}" for grader in GRADERS for when in ("before", "after")]
    return found.readings[changed].astype({name: int for name in verdicts})
