"""The three stages: adapt, generate, grade. Each looks its result up in the store, or computes it once and puts it there."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.adaptations import Adaptation, EmbeddingPrefix, identity
from ttsv.collapse import repetition
from ttsv.engines.base import Engine
from ttsv.evaluation import Evaluation
from ttsv.methods.base import Method, Setting
from ttsv.metrics import metrics
from ttsv.models import LanguageModel
from ttsv.partial import Partial
from ttsv.progress import bar
from ttsv.records import Problem, Prompt
from ttsv.scoring.base import Grader
from ttsv.soft_prompt import load_soft_prompt
from ttsv.store import Stage, Store, digest, write_atomically

log = logging.getLogger(__name__)

ADAPT_VERSION = 1
GENERATE_VERSION = 1
GRADE_VERSION = 1
"""Raised whenever a change of the code may change what its stage computes, so that no older result is reused."""

VECTOR = "vector.safetensors"
ADAPTATION = "adaptation.json"
HISTORY = "history.jsonl"
PROMPTS = "prompts.jsonl"
COMPLETIONS = "completions.parquet"
SAMPLES = "samples.parquet"
METRICS = "metrics.json"
PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class Outcome:
    """A finished stage, and whether it was there already."""

    stage: Stage
    reused: bool


Load = Callable[[], LanguageModel]
"""Gives the model when, and only when, a stage has to compute."""


def adapt(
    store: Store, method: Method, setting: Setting, load: Load, provenance: Callable[[], Mapping[str, Any]]
) -> Outcome:
    """Find the adaptation of ``method``: ``adaptation.json``, ``history.jsonl`` and, where it is a prefix, ``vector.safetensors``."""
    key = {"version": ADAPT_VERSION, "method": method.name, **method.determined_by(setting)}

    def compute(work: Path) -> None:
        began = time.perf_counter()
        found = method.adapt(load(), setting, work)
        if found.adaptation is not None:
            found.adaptation.soft_prompt.save(work / VECTOR)
        _write_rows(work / HISTORY, found.history)
        measured = sum(row["seconds_rollout"] + row["seconds_loss"] for row in found.history)
        record = {
            "kind": None if found.adaptation is None else type(found.adaptation).__name__,
            "note": found.note,
            "seconds": measured or time.perf_counter() - began,
            "tokens_rollout": sum(row["response_tokens"] for row in found.history),
            "tokens_loss": sum(row["response_tokens"] + row["prompt_tokens"] for row in found.history),
            **found.details,
        }
        _write_json(work / ADAPTATION, record)

    return _once(store.stage("adapt", method.name, key), compute, provenance)


def read_adaptation(folder: Path) -> Adaptation | None:
    """Return the adaptation that a finished adapt stage holds."""
    record = json.loads((folder / ADAPTATION).read_text())
    return EmbeddingPrefix(load_soft_prompt(folder / VECTOR)) if record["kind"] == EmbeddingPrefix.__name__ else None


def generate(
    store: Store,
    label: str,
    prompts: Sequence[Prompt],
    adaptation: Adaptation | None,
    evaluation: Evaluation,
    engine: Engine,
    keys: Mapping[str, Any],
    load: Load,
    provenance: Callable[[], Mapping[str, Any]],
) -> Outcome:
    """Write completions for all prompts: ``prompts.jsonl`` and ``completions.parquet``; a batch that was finished is never redone.

    ``keys`` identifies model, arithmetic, engine and prompts, JSON-able.
    """
    key = {"version": GENERATE_VERSION, "adaptation": identity(adaptation), "evaluation": asdict(evaluation), **keys}

    def compute(work: Path) -> None:
        lm = load()
        decoding = evaluation.resolved(lm)
        requests = evaluation.requests(prompts)
        partial = Partial(work / "partial")
        done = partial.completions()
        left = [r for r in requests if (r.prompt.problem_id, r.sample) not in done]
        budget = decoding.sampling.max_new_tokens
        with bar(budget * len(requests), budget * len(done), label, "tok") as shown:
            began = time.perf_counter()
            for batch in engine.generate(lm, left, adaptation, decoding, shown.update):
                partial.add(batch.values(), time.perf_counter() - began)
                began = time.perf_counter()
        done = partial.completions()
        ordered = [done[r.prompt.problem_id, r.sample] for r in requests]
        pd.DataFrame([{**asdict(c), "tokens": len(c.token_ids)} for c in ordered]).to_parquet(work / COMPLETIONS)
        _write_rows(
            work / PROMPTS, [{"problem_id": p.problem_id, "tokens": len(p.token_ids), "text": p.text} for p in prompts]
        )
        _write_json(work / METRICS, {"seconds": partial.seconds(), "decoding": asdict(decoding)})
        partial.remove()

    return _once(store.stage("generate", label, key), compute, provenance)


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
        "grader": asdict(grader),  # type: ignore[call-overload]  # graders are dataclasses, which a protocol cannot say
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
        _write_json(work / METRICS, metrics(samples))

    return _once(store.stage("grade", f"{grader.name}-{generation.path.name}", key), compute, provenance)


def _once(stage: Stage, compute: Callable[[Path], None], provenance: Callable[[], Mapping[str, Any]]) -> Outcome:
    """Return the finished stage, computing it under its lock if it is not there."""
    if stage.is_complete():
        return Outcome(stage, reused=True)
    with stage.locked():
        if stage.is_complete():
            return Outcome(stage, reused=True)
        with stage.open_work() as work:
            log.info("%s: computing %s", stage.kind, stage.path.name)
            compute(work)
            _write_json(work / PROVENANCE, provenance())
        stage.commit()
    return Outcome(stage, reused=False)


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=1))
