"""The numbers of the released completions that anyone can recount."""

from pathlib import Path

import pandas as pd
import pytest

from ttsv.audit import SETTLED
from ttsv.auditing.examine import examine
from ttsv.auditing.findings import CompletionFindings
from ttsv.auditing.release_files import ReleaseFolder
from ttsv.auditing.verdicts import read_settled

FOLDERS = {"1.5b": "qwen2.5-math-1.5b_math500", "7b": "qwen2.5-math-7b_math500"}


@pytest.fixture(scope="module")
def completions(reference: Path) -> dict[str, CompletionFindings]:
    """What was found in the released completions, by size of the model."""
    found = {}
    for size, name in FOLDERS.items():
        place = reference / name
        folder = ReleaseFolder(name, None, place / "completions.jsonl", place / "metrics.json")
        data = reference.parents[1] / "data"
        examined = examine(folder, 3072, data, read_settled(SETTLED)).completions
        assert examined is not None
        found[size] = examined
    return found


def count(rows: pd.DataFrame, column: str) -> int:
    return int(rows[column].sum())


def test_released_verdicts_and_code_are_as_counted_by_hand(completions: dict[str, CompletionFindings]) -> None:
    seven, small = completions["7b"].rows, completions["1.5b"].rows
    assert (len(small), count(small, "released")) == (500, 342)
    assert (len(seven), count(seven, "released")) == (500, 372)
    assert count(seven, "trait: Python block") == 460
    assert count(small, "trait: Python block") == 53
    assert count(seven, "trait: call-limit sentence") == 11
    assert count(small, "trait: call-limit sentence") == 0
    assert all(found.metrics["acc"] == 100 * found.rows["released"].mean() for found in completions.values())


def test_golds_are_those_of_the_task_data(completions: dict[str, CompletionFindings]) -> None:
    assert [found.problems_found for found in completions.values()] == [500, 500]


def test_the_release_s_rule_gives_the_released_verdicts(completions: dict[str, CompletionFindings]) -> None:
    for found in completions.values():
        assert (found.rows["release"] != found.rows["released"]).sum() <= 2


def test_every_disagreement_is_settled_by_hand(completions: dict[str, CompletionFindings]) -> None:
    for found in completions.values():
        ours = found.disagreements[found.disagreements["math_verify"] != found.disagreements["released"]]
        assert (ours["reason"] != "").all()
        assert (ours["settled"].astype(bool) == ours["math_verify"]).all()


def test_the_call_limit_sentence_stands_below_three_output_blocks(completions: dict[str, CompletionFindings]) -> None:
    rows = completions["7b"].rows
    assert set(rows.loc[rows["trait: call-limit sentence"], "output blocks"]) == {3}


def test_some_output_blocks_contradict_the_program_above_them(completions: dict[str, CompletionFindings]) -> None:
    outputs = completions["7b"].outputs.set_index(["line", "block"])
    assert (outputs["status"] == "contradicts").sum() == 13
    claimed = outputs.loc[(114, 1)]
    assert (claimed["output"], claimed["computed"]) == ("199920", "8000")  # (26^2 - 24^2 - 10)^2 - 10^2
