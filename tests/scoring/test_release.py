"""The released completions: the release's verdicts under its rule, ours where minds differ."""

import time
from typing import Any

import pytest

from tests.scoring.conftest import DATA, read_jsonl
from ttsv.scoring import MathVerifyGrader, ReleaseGrader


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
    case: dict[str, Any], released: list[dict[str, Any]], grader: MathVerifyGrader
) -> None:
    row = next(row for row in released if row["model"] == case["model"] and row["idx"] == case["idx"])
    verdict = grader.grade([row["answer"]], [row["code"][0]])[0]
    assert verdict.correct is case["verdict"], f"{case['reason']}: {verdict}"


def test_every_disagreement_with_the_release_is_settled(
    released: list[dict[str, Any]], grader: MathVerifyGrader
) -> None:
    settled = {(case["model"], case["idx"]) for case in read_jsonl(DATA / "adjudicated_release.jsonl")}
    verdicts = grader.grade([row["answer"] for row in released], [row["code"][0] for row in released])
    different = {
        (row["model"], row["idx"])
        for row, verdict in zip(released, verdicts, strict=True)
        if verdict.correct != row["score"][0]
    }
    assert different <= settled
    assert {verdict.flag for verdict in verdicts} <= {"ok", "no_answer"}


def test_a_thousand_rows_take_seconds(released: list[dict[str, Any]]) -> None:
    start = time.perf_counter()
    MathVerifyGrader(memory_mb=1025).grade([row["answer"] for row in released], [row["code"][0] for row in released])
    assert time.perf_counter() - start < 20
