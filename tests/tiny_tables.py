"""Graded samples written by hand, a digit a row, 1 is right; and finished runs as ttsv.run leaves them, made of such samples."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.store import Store, once, write_json, write_rows
from ttsv.study import SHARED_FACTS, Cell


def rows_of(verdicts: str, samples: int = 1, answers: Sequence[str | None] | None = None) -> pd.DataFrame:
    """One row per digit; with several samples, successive digits belong to one problem. ``answers`` are the extracted texts."""
    return pd.DataFrame(
        [
            {
                "problem_id": f"p{number // samples}",
                "sample": number % samples,
                "correct": digit == "1",
                "answer": answers[number] if answers else digit,
                "boxed": True,
                "finish_reason": "stop",
                "repetition": 0.0,
                "tokens": 10,
                "mean_entropy": 0.5,
                "flag": "ok",
            }
            for number, digit in enumerate(verdicts)
        ]
    )


def cell(method: str, verdicts: str, seed: int = 15, optimised: frozenset[str] = frozenset(), **facts: Any) -> Cell:
    """A finished run."""
    return Cell({"method": method, "seed": seed, **facts}, rows_of(verdicts), optimised)


def history(entropies: Sequence[float], response_tokens: int = 100, prompt_tokens: int = 60) -> list[dict[str, Any]]:
    """Rows of an optimisation's history, one per update, its responses all alike."""
    same = {"response_length": 25.0, "cap_hit_rate": 0.0, "repetition": 0.0, "distinct_responses": 1.0}
    tokens = {"response_tokens": response_tokens, "prompt_tokens": prompt_tokens}
    return [{"update": n, "entropy": value, **same, **tokens} for n, value in enumerate(entropies, start=1)]


def finished_run(
    results: Path,
    method: str,
    verdicts: str,
    seed: int = 15,
    study: str = "study",
    *,
    samples: int = 1,
    answers: Sequence[str | None] | None = None,
    course: Sequence[Mapping[str, Any]] = (),
    config: Mapping[str, Any] | None = None,
    frames: Mapping[str, pd.DataFrame] | None = None,
    rows: pd.DataFrame | None = None,
    reread: pd.DataFrame | None = None,
    optimised: Sequence[str] = (),
    details: Mapping[str, Any] | None = None,
    **facts: Any,
) -> Path:
    """A run as ttsv.run leaves it, its samples written by hand; ``course`` is its history, ``frames`` are files of its activations.

    ``rows`` are the graded samples where digits do not say enough, ``reread`` is the frame of that stage, ``details`` go
    into adaptation.json.
    """
    store, folders = Store(results / "stages"), {}
    tokens = {
        "tokens_rollout": sum(row["response_tokens"] for row in course),
        "tokens_loss": sum(row["response_tokens"] + row["prompt_tokens"] for row in course),
    }

    def adapt(work: Path) -> None:
        write_json(work / "adaptation.json", {"seconds": 1.0, "note": None, **tokens, **(details or {})})
        write_rows(work / "history.jsonl", course)

    def activations(work: Path) -> None:
        for name, frame in (frames or {}).items():
            frame.to_parquet(work / f"{name}.parquet")

    graded = rows_of(verdicts, samples, answers) if rows is None else rows
    contents: dict[str, Callable[[Path], None]] = {
        "adapt": adapt,
        "generate": lambda work: write_json(work / "metrics.json", {"seconds": 2.0}),
        "grade": lambda work: graded.to_parquet(work / "samples.parquet"),
        **({"activations": activations} if frames else {}),
        **({"reread": lambda work: reread.to_parquet(work / "reread.parquet")} if reread is not None else {}),
    }
    for kind, compute in contents.items():
        # A generation without a vector does not depend on the seed.
        key = [method, verdicts, None if method == "none" else seed, facts.get("task"), samples]
        key += (
            []
            if rows is None
            else [graded.to_json(), facts.get("adapt_on"), facts.get("at_update"), facts.get("variant")]
        )
        if kind == "adapt" and course:
            key = [method, seed, list(course)]
        folders[kind] = once(store.stage(kind, method, {"key": key}), compute, dict).stage.path
    whole = {**dict.fromkeys(SHARED_FACTS), "method": method, "variant": "", "options": "", "seed": seed, **facts}
    record = {
        "facts": whole,
        "optimised_ids": list(optimised),
        "stages": {kind: folder.relative_to(store.root).as_posix() for kind, folder in folders.items()},
        "config": dict(config or {}),
    }
    words = [
        whole[n]
        for n in (
            "model",
            "task",
            "prompt",
            "adapt_task",
            "adapt_on",
            "at_update",
            "variant",
            "conditions",
            "aggregate",
        )
        if whole.get(n)
    ]
    file = results / "runs" / study / ("-".join([method, str(seed), *map(str, words)]).replace(" ", "_") + ".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record))
    return file
