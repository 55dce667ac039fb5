"""Seeing a collapse while it happens: entropy has degenerate optima (stop at once, never stop, repeat, say the same to all)."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

WINDOW = 4
"""Updates that are averaged, at the start and at the present."""


def repetition(ids: Sequence[int], n: int = 4) -> float:
    """Return the share of a row's n-grams that stood in it before, 0 for rows shorter than n tokens."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def detect(history: Sequence[Mapping[str, Any]]) -> str | None:
    """Name the collapse that the latest updates show against the first ones, or None.

    Stated rules, on means over the first and the last four updates, once there are eight. ``length``: responses shorter than a quarter
    of what they were. ``runaway``: more than 75 % of the rollouts run into the cap, and 30 points more than at first. ``repetition``:
    more than half of the 4-grams repeat, and 0.3 more than at first. ``variety``: fewer than half as many distinct responses in a batch
    as at first.
    """
    if len(history) < 2 * WINDOW:
        return None

    def means(key: str) -> tuple[float, float]:
        return fmean(row[key] for row in history[:WINDOW]), fmean(row[key] for row in history[-WINDOW:])

    first, now = means("response_length")
    if now < first / 4:
        return f"length: responses of {now:.1f} tokens, {first:.1f} at first"
    first, now = means("cap_hit_rate")
    if now > 0.75 and now > first + 0.3:
        return f"runaway: {now:.0%} of rollouts run into the cap, {first:.0%} at first"
    first, now = means("repetition")
    if now > 0.5 and now > first + 0.3:
        return f"repetition: {now:.0%} of 4-grams repeat, {first:.0%} at first"
    first, now = means("distinct_responses")
    if now < first / 2:
        return f"variety: {now:.0%} of a batch's responses are distinct, {first:.0%} at first"
    return None
