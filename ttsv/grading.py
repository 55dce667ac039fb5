"""The stage that needs no model: grading. A better grader grades again what was generated once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.collapse import repetition
from ttsv.metrics import metrics
from ttsv.records import Problem
from ttsv.scoring.base import Grader
from ttsv.store import Outcome, Stage, Store, digest, once, write_json

GRADE_VERSION = 1
"""Raised whenever a change outside the graders (which have versions of their own) may change what is stored."""

COMPLETIONS = "completions.parquet"
SAMPLES = "samples.parquet"
METRICS = "metrics.json"


def configuration(grader: Grader) -> dict[str, Any]:
    """Return a grader's whole configuration, JSON-able: its fields, name and version among them."""
    fields: dict[str, Any] = asdict(grader)  # type: ignore[call-overload]  # graders are dataclasses, which a protocol cannot say
    return fields


def grade(
    store: Store,
    generation: Stage,
    problems: Sequence[Problem],
    grader: Grader,
    provenance: Callable[[], Mapping[str, Any]],
) -> Outcome:
    """Grade a finished generation: ``samples.parquet``, a row per completion with question, gold and verdict, and ``metrics.json``."""
    key = {
        "version": GRADE_VERSION,
        "generation": generation.digest,
        "grader": configuration(grader),
        "golds": digest([[p.id, p.gold] for p in problems]),
    }

    def compute(work: Path) -> None:
        completions = pd.read_parquet(generation.path / COMPLETIONS)
        by_id = {p.id: p for p in problems}
        chosen = [by_id[i] for i in completions["problem_id"]]
        verdicts = grader.grade([p.gold for p in chosen], list(completions["text"]))
        rows = [
            {
                "question": p.question,
                "gold": p.gold,
                "subject": p.subject,
                "level": p.level,
                **asdict(v),
                "boxed": "\\boxed" in text,
            }
            for p, v, text in zip(chosen, verdicts, completions["text"], strict=True)
        ]
        samples = pd.concat([completions, pd.DataFrame(rows)], axis=1)
        samples["repetition"] = [repetition(ids) for ids in samples.pop("token_ids")]
        samples.to_parquet(work / SAMPLES)
        write_json(work / METRICS, metrics(samples))

    return once(store.stage("grade", f"{grader.name}-{generation.path.name}", key), compute, provenance)
