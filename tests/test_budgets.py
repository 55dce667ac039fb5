"""Voting and what an answer costs: scores of a majority, tokens spread over problems."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_tables import finished_run, history, rows_of

from ttsv.metrics import problem_scores
from ttsv.report import write_report
from ttsv.stats import accuracy_interval
from ttsv.study import Cell, read_cells
from ttsv.tables import accuracy_of


@pytest.mark.parametrize(
    ("answers", "verdicts", "score"),
    [
        (["5", "5", "7"], "110", 1.0),
        (["5", "7", "7"], "100", 0.0),
        (["5", "7", "9"], "100", 1 / 3),
        (["5", "5", "7", "7"], "1100", 0.5),
        ([None, None, None, "5"], "0001", 1.0),
        ([None, None, None], "000", 0.0),
        (["", "", "5"], "001", 1.0),
    ],
)
def test_the_majority_answer_counts_and_no_answer_has_no_vote(
    answers: list[str | None], verdicts: str, score: float
) -> None:
    samples = rows_of(verdicts, len(answers), answers)
    assert list(problem_scores(samples, "majority")) == pytest.approx([score])
    assert list(problem_scores(samples)) == pytest.approx([verdicts.count("1") / len(verdicts)])


def test_an_unknown_aggregate_is_refused() -> None:
    with pytest.raises(ValueError, match="aggregate='median'; expected mean or majority"):
        problem_scores(rows_of("10"), "median")


def test_a_majority_is_one_answer_a_problem_in_its_interval() -> None:
    samples = rows_of("110" * 6 + "100" * 4, 3)
    for stated in ({"facts": {"aggregate": "majority"}}, {"config": {"aggregate": "majority"}}):
        voted = Cell({"method": "none", "seed": 1, **stated.get("facts", {})}, samples, frozenset(), **_only(stated))
        low, high = accuracy_interval([1] * 6 + [0] * 4, 1)
        assert accuracy_of([voted]) == pytest.approx((60, 100 * low, 100 * high))
        assert voted.label == "none (majority vote)"


def _only(stated: dict[str, Any]) -> dict[str, Any]:
    return {"config": stated["config"]} if "config" in stated else {}


def evaluation(samples: int, temperature: float, **more: Any) -> dict[str, Any]:
    sampling = {"sampling": {"temperature": temperature}}
    return {"recipe": {"evaluation": {"samples": samples, "sampling_from": "decoding", "decoding": sampling}}, **more}


def test_tokens_of_rollouts_loss_and_responses_are_spread_over_the_problems(tmp_path: Path) -> None:
    course = history([1.0, 0.9], response_tokens=100, prompt_tokens=60)
    finished_run(tmp_path, "ttsv", "1100", course=course)
    finished_run(tmp_path, "ttsv", "1000", course=course, at_update=1, variant="at_update=1")
    cells, _ = read_cells(tmp_path / "runs" / "study", tmp_path)
    spent = {cell.facts.get("at_update"): cell.tokens_per_problem for cell in cells}
    rollout, loss, answers = 100, 160, 4 * 10
    assert spent == {None: (2 * (rollout + loss) + answers) / 4, 1: (rollout + loss + answers) / 4}


def test_methods_and_votes_stand_in_one_table_by_what_they_cost(tmp_path: Path) -> None:
    shared = {"model": "small", "task": "gcd", "scale": "mini", "prompt": "release"}
    finished_run(tmp_path, "none", "0011", config=evaluation(1, 0), evaluation="a", **shared)
    finished_run(tmp_path, "ttsv", "0111", config=evaluation(1, 0), course=history([1.0]), evaluation="a", **shared)
    voting = {"samples": 7, "config": evaluation(7, 0.7, aggregate="majority"), "evaluation": "b", "conditions": "k=7"}
    finished_run(tmp_path, "none", "1" * 7 + "1111000" + "1000000" + "0" * 7, **voting, **shared)
    text = write_report(tmp_path, "study").text
    frame = pd.read_csv(tmp_path / "runs" / "study" / "budgets.csv")
    assert list(frame["method"]) == ["none", "none (majority vote)", "ttsv"]
    assert list(frame["tokens"]) == [10, 70, 75]
    assert list(frame["of_ttsv"]) == pytest.approx([10 / 75, 70 / 75, 1])
    assert list(frame["accuracy"]) == pytest.approx([50, 50, 75])
    assert list(frame["temperature"]) == [0, 0.7, 0]
    assert "## Accuracy by tokens spent: small on gcd, mini scale" in text


def test_a_vector_of_half_of_the_problems_is_named_so_and_is_no_measure_of_cost(tmp_path: Path) -> None:
    shared = {"model": "small", "task": "gcd", "scale": "mini", "prompt": "release"}
    for adapt_on, verdicts, rounds in (("first_half", "1110", 1), ("all", "0111", 2)):
        course = history([1.0] * rounds)
        finished_run(tmp_path, "ttsv", verdicts, config=evaluation(1, 0), course=course, adapt_on=adapt_on, **shared)
    finished_run(tmp_path, "none", "0011", config=evaluation(1, 0.7), evaluation="b", **shared)
    text = write_report(tmp_path, "study").text
    frame = pd.read_csv(tmp_path / "runs" / "study" / "budgets.csv", keep_default_na=False)
    assert list(frame["half"]) == ["", "adapted on the first half", ""]
    assert list(frame["of_ttsv"].astype(float)) == pytest.approx([10 / 140, 75 / 140, 1])
    headings = [line for line in text.splitlines() if line.startswith("## small on gcd")]
    assert sum(line.endswith("adapted on the first half") for line in headings) == 1 < len(headings)


def test_cells_of_one_way_to_evaluate_need_no_table_of_budgets(tmp_path: Path) -> None:
    finished_run(tmp_path, "none", "0011", config=evaluation(1, 0))
    finished_run(tmp_path, "ttsv", "0111", config=evaluation(1, 0))
    assert "tokens spent:" not in write_report(tmp_path, "study").text.replace("*tokens spent*:", "")
    assert not (tmp_path / "runs" / "study" / "budgets.csv").exists()
