"""A collapse is named by its stated rule, and by no other."""

from typing import Any

import pytest

from ttsv.collapse import detect, repetition

HEALTHY = {"response_length": 40.0, "cap_hit_rate": 0.4, "repetition": 0.1, "distinct_responses": 1.0}


def history(now: dict[str, float], healthy: int = 4, collapsed: int = 4) -> list[dict[str, Any]]:
    return [HEALTHY] * healthy + [{**HEALTHY, **now}] * collapsed


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ({"response_length": 9.9}, "length: responses of 9.9 tokens, 40.0 at first"),
        ({"cap_hit_rate": 0.9}, "runaway: 90% of rollouts run into the cap, 40% at first"),
        ({"repetition": 0.6}, "repetition: 60% of 4-grams repeat, 10% at first"),
        ({"distinct_responses": 0.4}, "variety: 40% of a batch's responses are distinct, 100% at first"),
    ],
)
def test_each_kind_of_collapse_is_named(now: dict[str, float], named: str) -> None:
    assert detect(history(now)) == named


@pytest.mark.parametrize(
    "now",
    [
        {},
        {"response_length": 10.1},
        {"cap_hit_rate": 0.7},
        {"repetition": 0.49},
        {"distinct_responses": 0.51},
        {"response_length": 400},
    ],
)
def test_less_than_a_collapse_is_none(now: dict[str, float]) -> None:
    assert detect(history(now)) is None


def test_a_task_that_repeats_from_the_start_has_not_collapsed() -> None:
    assert detect([{**HEALTHY, "repetition": 0.55}] * 4 + [{**HEALTHY, "repetition": 0.8}] * 4) is None
    assert detect([{**HEALTHY, "repetition": 0.55}] * 4 + [{**HEALTHY, "repetition": 0.9}] * 4) is not None


def test_nothing_is_said_before_eight_updates() -> None:
    assert detect(history({"response_length": 1}, healthy=3)) is None
    assert detect([]) is None


def test_one_odd_update_is_no_collapse() -> None:
    assert detect([HEALTHY] * 7 + [{**HEALTHY, "response_length": 1}]) is None


def test_repetition_is_the_share_of_n_grams_that_stood_before() -> None:
    assert repetition([1, 2, 3, 4, 5]) == 0
    assert repetition([1] * 7) == 0.75
    assert repetition([1, 2, 1, 2, 1, 2], n=2) == pytest.approx(3 / 5)
    assert repetition([1, 2, 3]) == 0
