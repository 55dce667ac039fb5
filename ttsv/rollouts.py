"""Rollouts: one sampled response per row of an update, for one update or for several at once."""

from collections.abc import Sequence
from itertools import islice
from statistics import fmean

from ttsv import ranks
from ttsv.adaptations import Adaptation
from ttsv.collapse import repetition
from ttsv.engines import spread
from ttsv.engines.base import Decoding, Engine, Request, Stopping
from ttsv.models import LanguageModel
from ttsv.optimization import Optimization
from ttsv.records import Completion, Prompt

Stream = tuple[int, ...]
"""Keys the random numbers of one update's rollouts, together with problem and sample."""


def rollouts(
    lm: LanguageModel,
    updates: Sequence[tuple[Stream, Sequence[Prompt]]],
    adaptation: Adaptation,
    options: Optimization,
    engine: Engine,
) -> list[list[Completion]]:
    """Return one sampled response per prompt of each update, whose stream and prompts are given; all rows are decoded side by side,
    by as many processes as there are.

    What a row samples depends on its update's stream and its problem alone; a repeated row of an update has random numbers of its own.
    """
    requests = [request for stream, prompts in updates for request in _requests(stream, prompts)]
    decoding = Decoding(
        options.rollout,
        Stopping(options.rollout_end),
        options.layout.order,
        batch_size=-(-len(requests) // ranks.size()),
        sort_by_length=False,
    )
    found: dict[int, Completion] = {}
    for batch in spread.generate(engine, lm, requests, adaptation, decoding):
        found.update(batch)
    responses = iter([found[i] for i in range(len(requests))])
    return [list(islice(responses, len(prompts))) for _, prompts in updates]


def _requests(stream: Stream, prompts: Sequence[Prompt]) -> list[Request]:
    counts: dict[str, int] = {}
    requests = []
    for prompt in prompts:
        sample = counts[prompt.problem_id] = counts.get(prompt.problem_id, -1) + 1
        requests.append(Request(prompt, sample, ("rollout", *stream, prompt.problem_id, sample)))
    return requests


def describe(responses: Sequence[Completion]) -> dict[str, float]:
    """Return what an update's rollouts look like: lengths in tokens, shares of rows."""
    return {
        "response_length": fmean(len(r.token_ids) for r in responses),
        "response_tokens": sum(len(r.token_ids) for r in responses),
        "cap_hit_rate": fmean(r.finish_reason == "length" for r in responses),
        "boxed_rate": fmean("\\boxed" in r.text for r in responses),
        "repetition": fmean(repetition(r.token_ids) for r in responses),
        "distinct_responses": len({r.token_ids for r in responses}) / len(responses),
    }
