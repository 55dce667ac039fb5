"""The stage that reads finished responses otherwise than they were graded, without generating: cut at smaller caps, or read leniently.

**Caps.** Decoding is causal, so the first n tokens of a response are what a cap of n new tokens would have given, in this very batch.
**Readings** are counterfactuals that tell failures of format from failures of mathematics: ``last expression`` takes the last formula or
number of a response without a closed box for its answer; ``first box`` stops reading after the first of several boxes.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ttsv.grading import COMPLETIONS, METRICS, configuration
from ttsv.records import Problem
from ttsv.scoring.base import Grader
from ttsv.scoring.extract import box_ends, last_expression
from ttsv.store import Outcome, Stage, Store, digest, once

REREAD_VERSION = 1
REREAD = "reread.parquet"
SMALLEST_CAP = 16
LAST_EXPRESSION, FIRST_BOX = "last expression", "first box"

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens left out."""


def caps_below(longest: int) -> list[int]:
    """Return the caps to cut at: powers of two from 16 up that are smaller than the cap of the run."""
    return [2**power for power in range(SMALLEST_CAP.bit_length() - 1, longest.bit_length()) if 2**power < longest]


def cut(row: Mapping[str, Any], cap: int, decode: Decode, stop_strings: Sequence[str]) -> tuple[str, bool]:
    """Return the text that a smaller cap leaves of a completion, and whether it is truncated there."""
    if len(row["token_ids"]) <= cap:
        return str(row["text"]), row["finish_reason"] == "length"
    text = decode([int(token) for token in row["token_ids"][:cap]])
    return text.split(stop_strings[-1])[0] if stop_strings else text, True


def lenient(text: str) -> tuple[str, str] | None:
    """Return the name of the lenient reading that a text allows and the text to grade in its place, or None."""
    ends = box_ends(text)
    if len(ends) > 1:
        return FIRST_BOX, text[: ends[0]]
    if not ends:
        found = last_expression(text)
        return None if found is None else (LAST_EXPRESSION, f"\\boxed{{{found}}}")
    return None


def reread(
    store: Store,
    generation: Stage,
    problems: Sequence[Problem],
    grader: Grader,
    decode: Decode,
    provenance: Callable[[], Mapping[str, Any]],
) -> Outcome:
    """Write ``reread.parquet``: a row per completion and reading: ``reading`` (``cap`` or a lenient one), ``cap``, and the verdict on it.

    The rows of the run's own cap are the verdicts as graded; ``tokens`` are those that the cap leaves.
    """
    key = {
        "version": REREAD_VERSION,
        "generation": generation.digest,
        "grader": configuration(grader),
        "golds": digest([[p.id, p.gold] for p in problems]),
    }

    def compute(work: Any) -> None:
        decoding = json.loads((generation.path / METRICS).read_text())["decoding"]
        completions = pd.read_parquet(generation.path / COMPLETIONS)
        found = pd.DataFrame(list(_readings(completions, decoding, decode)))
        golds = {p.id: p.gold for p in problems}
        verdicts = grader.grade([golds[i] for i in found["problem_id"]], list(found.pop("text")))
        graded = pd.DataFrame([{"correct": v.correct, "answer": v.answer, "flag": v.flag} for v in verdicts])
        pd.concat([found, graded], axis=1).to_parquet(work / REREAD)

    return once(store.stage("reread", f"{grader.name}-{generation.path.name}", key), compute, provenance)


def _readings(completions: pd.DataFrame, decoding: Mapping[str, Any], decode: Decode) -> Iterator[dict[str, Any]]:
    longest = decoding["sampling"]["max_new_tokens"]
    strings = decoding["stopping"]["batch_strings"]
    for row in ({str(name): value for name, value in each.items()} for each in completions.to_dict("records")):
        same = {"problem_id": row["problem_id"], "sample": row["sample"]}
        for cap in [*caps_below(longest), longest]:
            text, truncated = cut(row, cap, decode, strings)
            of_cap = {"reading": "cap", "cap": cap, "text": text, "boxed": "\\boxed" in text, "truncated": truncated}
            yield {**same, **of_cap, "tokens": min(cap, len(row["token_ids"]))}
        if (other := lenient(str(row["text"]))) is not None:
            name, text = other
            yield {
                **same,
                "reading": name,
                "cap": longest,
                "text": text,
                "boxed": True,
                "truncated": False,
                "tokens": 0,
            }
