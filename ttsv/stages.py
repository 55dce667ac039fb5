"""The stages that need the model: adapt and generate. Each looks its result up in the store, or computes it once and puts it there."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.activations import measure
from ttsv.adaptations import KINDS, Adaptation
from ttsv.checkpoints import kept
from ttsv.engines import spread
from ttsv.engines.base import Decoding, Engine, Request
from ttsv.grading import COMPLETIONS, METRICS
from ttsv.methods.base import Load, Method, Setting
from ttsv.models import LanguageModel
from ttsv.partial import Partial
from ttsv.progress import bar
from ttsv.records import Prompt, UserError
from ttsv.store import UNFINISHED, Outcome, Stage, Store, digest, once, write_json, write_rows

log = logging.getLogger(__name__)

ADAPT_VERSION = 4
GENERATE_VERSION = 2
ACTIVATIONS_VERSION = 1
"""Raised whenever a change of the code may change what its stage computes, so that no older result is reused."""

ADAPTATION = "adaptation.json"
SPENT = ("seconds", "tokens_rollout", "tokens_loss")
"""What an adaptation cost, that of the one it started from included."""

HISTORY = "history.jsonl"
PROMPTS = "prompts.jsonl"
DRIFT = "drift.parquet"
STATES = "states.parquet"


def adapt(
    store: Store, method: Method, setting: Setting, load: Load, provenance: Callable[[], Mapping[str, Any]]
) -> Outcome:
    """Find the adaptation of ``method``: ``adaptation.json``, ``history.jsonl`` and its file (``vector.safetensors`` if a prefix).

    Where the method starts from another's result, that one is found first, as a stage of its own.
    """

    def compute(work: Path) -> None:
        source, spent = None, dict.fromkeys(SPENT, 0)
        if method.of is not None:
            found_before = adapt(store, method.of, setting, load, provenance).stage.path
            source, spent = read_adaptation(found_before), json.loads((found_before / ADAPTATION).read_text())
        began, loading = time.perf_counter(), 0.0

        def timed_load() -> LanguageModel:
            nonlocal loading
            before = time.perf_counter()
            lm = load()
            loading += time.perf_counter() - before
            return lm

        found = method.adapt(timed_load, replace(setting, source=source), work)
        if found.adaptation is not None:
            found.adaptation.save(work / found.adaptation.FILE)
        write_rows(work / HISTORY, found.history)
        measured = sum(row["seconds_rollout"] + row["seconds_loss"] for row in found.history)
        own = {
            "seconds": measured or time.perf_counter() - began - loading,
            "tokens_rollout": sum(row["response_tokens"] for row in found.history),
            "tokens_loss": sum(row["response_tokens"] + row["prompt_tokens"] for row in found.history),
        }
        record = {
            "kind": None if found.adaptation is None else type(found.adaptation).__name__,
            "note": found.note,
            **{name: own[name] + spent[name] for name in SPENT},
            "prompts": len(setting.prompts),
            **found.details,
        }
        write_json(work / ADAPTATION, record)

    return once(adapt_stage(store, method, setting), compute, provenance)


def adapt_stage(store: Store, method: Method, setting: Setting) -> Stage:
    """Return the place of a method's adaptation in the store, finished or not."""
    key = {"version": ADAPT_VERSION, "method": method.name, **method.determined_by(setting)}
    return store.stage("adapt", method.name, key)


def read_adaptation(folder: Path, update: int | None = None) -> Adaptation | None:
    """Return the adaptation that a finished adapt stage holds: the reported one, or the one kept at an update.

    Raises:
        UserError: if nothing was kept at that update, naming the updates there are.
    """
    record = json.loads((folder / ADAPTATION).read_text())
    if record["kind"] is None:
        return None
    kind = KINDS[record["kind"]]
    if update is None:
        return kind.load(folder / kind.FILE)
    if not kept(folder, update).is_file():
        there = sorted(
            int(path.stem.rpartition("_")[2]) for path in kept(folder, 0).parent.glob("update_*.safetensors")
        )
        raise UserError(
            f"at_update={update}: nothing was kept there; kept were {', '.join(map(str, there)) or 'none'} "
            "(recipe.optimization.save_every, or once an epoch; em keeps its weights with method.keep=true)"
        )
    return kind.load(kept(folder, update))


def generate(
    store: Store,
    label: str,
    requests: Sequence[Request],
    adaptation: Adaptation | None,
    decoding: Decoding,
    engine: Engine,
    keys: Mapping[str, Any],
    load: Load,
    provenance: Callable[[], Mapping[str, Any]],
) -> Outcome:
    """Write a completion per request: ``prompts.jsonl`` and ``completions.parquet``; a batch that was finished is never redone.

    ``keys`` identifies model, arithmetic, engine and prompts, JSON-able.
    """
    identity = None if adaptation is None else adaptation.identity()

    def compute(work: Path) -> None:
        lm = load()
        partial = Partial(work / UNFINISHED)
        done = partial.completions()
        left = [r for r in requests if (r.prompt.problem_id, r.sample) not in done]
        budget = decoding.sampling.max_new_tokens
        with bar(budget * len(requests), budget * len(done), label, "tok") as shown:
            began = time.perf_counter()
            for batch in spread.generate(engine, lm, left, adaptation, decoding, shown.update):
                partial.add(batch.values(), time.perf_counter() - began)
                began = time.perf_counter()
        done = partial.completions()
        ordered = [done[r.prompt.problem_id, r.sample] for r in requests]
        pd.DataFrame([{**asdict(c), "tokens": len(c.token_ids)} for c in ordered]).to_parquet(work / COMPLETIONS)
        prompts = {r.prompt.problem_id: r.prompt for r in requests}.values()
        write_rows(
            work / PROMPTS, [{"problem_id": p.problem_id, "tokens": len(p.token_ids), "text": p.text} for p in prompts]
        )
        write_json(work / METRICS, {"seconds": partial.seconds(), "decoding": asdict(decoding)})

    return once(generate_stage(store, label, requests, identity, decoding, keys), compute, provenance)


def generate_stage(
    store: Store,
    label: str,
    requests: Sequence[Request],
    identity: Mapping[str, Any] | None,
    decoding: Decoding,
    keys: Mapping[str, Any],
) -> Stage:
    """Return the place of the completions in the store, finished or not; random streams count only where something is sampled."""
    rows = [[r.prompt.problem_id, r.sample, None if decoding.sampling.greedy else r.stream] for r in requests]
    key = {
        "version": GENERATE_VERSION,
        "adaptation": identity,
        "decoding": asdict(decoding),
        "rows": digest(rows),
        **keys,
    }
    return store.stage("generate", label, key)


def activations(
    store: Store,
    label: str,
    prompts: Sequence[Prompt],
    adaptation: Adaptation | None,
    keys: Mapping[str, Any],
    load: Callable[[], LanguageModel],
    provenance: Callable[[], Mapping[str, Any]],
) -> Outcome:
    """Write how far the adaptation moves the prompts' hidden states, ``drift.parquet``, and where they lie, ``states.parquet``.

    ``keys`` identifies model, arithmetic and prompts, JSON-able.
    """
    identity = None if adaptation is None else adaptation.identity()
    key = {"version": ACTIVATIONS_VERSION, "adaptation": identity, **keys}

    def compute(work: Path) -> None:
        moved, states = measure(load(), prompts, adaptation)
        moved.to_parquet(work / DRIFT)
        states.to_parquet(work / STATES)

    return once(store.stage("activations", label, key), compute, provenance)
