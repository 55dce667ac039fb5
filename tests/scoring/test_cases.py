"""The conventions, row by row."""

import time
from typing import Any

import pytest

from tests.scoring.conftest import grading_cases
from ttsv.scoring import MathVerifyGrader


@pytest.mark.parametrize(
    "case",
    grading_cases(),
    ids=lambda case: f"{case['gold'][:30]} | {case['completion'][-40:]}".encode("ascii", "replace").decode(),
)
def test_a_case_is_graded_as_a_careful_mathematician_would(case: dict[str, Any], grader: MathVerifyGrader) -> None:
    start = time.perf_counter()
    verdict = grader.grade([case["gold"]], [case["completion"]])[0]
    assert verdict.correct is case["correct"], f"{case['reason']}: {verdict}"
    assert verdict.flag == case.get("flag", verdict.flag), f"{case['reason']}: {verdict}"
    assert verdict.flag not in ("timeout", "error"), verdict
    assert time.perf_counter() - start < 2


def test_every_case_has_its_reason_and_stands_once() -> None:
    cases = grading_cases()
    assert all(case["reason"] for case in cases)
    assert len({(case["gold"], case["completion"]) for case in cases}) == len(cases)
    assert len(cases) > 300
