"""The released completions: the release's verdicts under its rule, ours where minds differ."""

import time
from typing import Any

import pytest

from tests.scoring.conftest import DATA, read_jsonl
from ttsv.records import Verdict
from ttsv.scoring import MathVerifyGrader, ReleaseGrader
from ttsv.scoring.workers import close_workers


@pytest.fixture(scope="module")
def ours(released: list[dict[str, Any]]) -> tuple[list[Verdict], float]:
    """Our verdicts on the released completions, and the seconds they took, start of the worker included."""
    close_workers()
    start = time.perf_counter()
    verdicts = MathVerifyGrader().grade([row["answer"] for row in released], [row["code"][0] for row in released])
    return verdicts, time.perf_counter() - start


def test_a_thousand_rows_take_seconds(ours: tuple[list[Verdict], float]) -> None:
    assert ours[1] < 20


def test_the_release_rule_repeats_the_released_verdicts(released: list[dict[str, Any]]) -> None:
    verdicts = ReleaseGrader().grade([row["answer"] for row in released], [row["code"][0] for row in released])
    different = [
        (row["model"], row["idx"])
        for row, verdict in zip(released, verdicts, strict=True)
        if verdict.correct != row["score"][0]
    ]
    assert len(different) <= 2, different


@pytest.mark.parametrize(
    "case", read_jsonl(DATA / "adjudicated_release.jsonl"), ids=lambda case: f"{case['model']}-{case['idx']}"
)
def test_a_settled_row_is_graded_as_settled(
    case: dict[str, Any], released: list[dict[str, Any]], ours: tuple[list[Verdict], float]
) -> None:
    place = next(i for i, row in enumerate(released) if (row["model"], row["idx"]) == (case["model"], case["idx"]))
    assert ours[0][place].correct is case["verdict"], f"{case['reason']}: {ours[0][place]}"


def test_every_disagreement_with_the_release_is_settled(
    released: list[dict[str, Any]], ours: tuple[list[Verdict], float]
) -> None:
    settled = {(case["model"], case["idx"]) for case in read_jsonl(DATA / "adjudicated_release.jsonl")}
    different = {
        (row["model"], row["idx"])
        for row, verdict in zip(released, ours[0], strict=True)
        if verdict.correct != row["score"][0]
    }
    assert different <= settled
    assert {verdict.flag for verdict in ours[0]} <= {"ok", "no_answer"}
