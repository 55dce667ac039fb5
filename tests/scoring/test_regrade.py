"""The regrade command."""

import json
from pathlib import Path

import pandas as pd
import pytest

from ttsv.grading import grade
from ttsv.records import Problem
from ttsv.regrade import main
from ttsv.scoring import MathVerifyGrader
from ttsv.store import Store, once


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def command(path: Path, *more: str) -> list[str]:
    return [str(path), "--gold-key", "gold", "--completion-key", "text", *more]


def test_each_completion_becomes_a_row_and_the_summary_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"gold": "5", "text": r"\boxed{5}"},
        {"gold": 5, "text": [r"\boxed{4}", "none"]},
        {"gold": "5", "text": [r"\boxed{5}"]},
    ]
    out = tmp_path / "deep" / "out.jsonl"
    assert main(command(write(tmp_path / "in.jsonl", list(rows)), "--out", str(out))) == 0
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["index"] for row in written] == [0, 1, 1, 2]
    assert [row["correct"] for row in written] == [True, False, False, True]
    assert list(written[0]) == ["index", "correct", "answer", "flag", "why"]
    assert written[1]["sample"] == 0
    printed = capsys.readouterr().out
    assert "2/4 = 50.0 %" in printed
    assert "ok 3, no_answer 1, unparsed 0, timeout 0, error 0" in printed


@pytest.mark.parametrize("grader", ["math_verify", "release", "choice"])
def test_every_grader_can_be_chosen_and_explains_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], grader: str
) -> None:
    path = write(tmp_path / "in.jsonl", [{"gold": "A", "text": r"so \boxed{A}"}])
    assert main(command(path, "--grader", grader, "--explain", "0")) == 0
    printed = capsys.readouterr().out
    assert "verdict    correct" in printed
    assert grader in printed


def test_hostile_answers_are_written_as_valid_json(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    path = write(
        tmp_path / "in.jsonl", [{"gold": "5", "text": "\\boxed{\ud800}"}, {"gold": "5", "text": "\\boxed{\0}"}]
    )
    assert main(command(path, "--out", str(out))) == 0
    assert [json.loads(line)["flag"] for line in out.read_text().splitlines()] == ["unparsed", "unparsed"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"gold": "5"}, "no key 'text' (from --completion-key)"),
        ({"gold": None, "text": "a"}, "must be a string or number, got NoneType"),
        ({"gold": "5", "text": [["a"]]}, "must be a string or a list of strings, got list"),
        ({"gold": "5", "text": 7}, "must be a string or a list of strings, got int"),
        ([1], "expected a JSON object, got list"),
    ],
)
def test_an_unusable_row_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: object, message: str
) -> None:
    path = write(tmp_path / "in.jsonl", [row])
    assert main(command(path, "--out", str(tmp_path / "out.jsonl"))) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "row 0" in printed


def test_a_broken_line_a_missing_file_and_a_missing_option_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"gold": "5", "text": "a"}\n{"gold"\n')
    assert main(command(path, "--out", str(tmp_path / "o"))) == 2
    assert "line 2" in capsys.readouterr().err
    assert main(command(tmp_path / "absent.jsonl", "--out", "o")) == 2
    assert "cannot read" in capsys.readouterr().err
    assert main([str(path), "--out", "o"]) == 2
    assert "--gold-key is needed" in capsys.readouterr().err
    assert main(command(write(path, [{"gold": "5", "text": "a"}]), "--explain", "9")) == 2
    assert "no row 9" in capsys.readouterr().err


def test_an_unwritable_place_is_named_before_anything_is_graded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [{"gold": "5", "text": "a"}])
    content = path.read_text()
    for out, message in (
        (path, "is the file to be graded"),
        (tmp_path, "is a folder"),
        (path / "out.jsonl", "cannot write"),
    ):
        assert main(command(path, "--out", str(out))) == 2
        assert message in capsys.readouterr().err
    assert path.read_text() == content


def test_a_row_without_completions_counts_as_no_answer(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert main(command(write(tmp_path / "in.jsonl", [{"gold": "5", "text": []}]), "--out", str(out))) == 0
    assert [json.loads(line)["flag"] for line in out.read_text().splitlines()] == ["no_answer"]


def test_a_number_longer_than_python_reads_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"gold": ' + "7" * 5000 + ', "text": "a"}\n')
    assert main(command(path, "--out", str(tmp_path / "out.jsonl"))) == 2
    assert "line 1" in capsys.readouterr().err


PROBLEMS = [Problem("a", "1/4 in percent?", "25", "tiny"), Problem("b", "2+3?", "5", "tiny")]
TEXTS = [r"\boxed{0.25}", r"\boxed{5}"]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of one run, generated and graded by our grader."""
    store = Store(tmp_path / "stages")
    completions = pd.DataFrame(
        {
            "problem_id": [p.id for p in PROBLEMS],
            "sample": 0,
            "text": TEXTS,
            "token_ids": [[1, 2]] * 2,
            "tokens": 2,
            "finish_reason": "stop",
            "mean_entropy": 0.5,
        }
    )
    generation = once(
        store.stage("generate", "none", {}), lambda work: completions.to_parquet(work / "completions.parquet"), dict
    ).stage
    graded = grade(store, generation, PROBLEMS, MathVerifyGrader(), dict).stage
    stages = {
        kind: stage.path.relative_to(store.root).as_posix()
        for kind, stage in (("generate", generation), ("grade", graded))
    }
    folder = tmp_path / "runs" / "study"
    folder.mkdir(parents=True)
    facts = {"task": "tiny", "grader": "math_verify", "grader_config": "old"}
    (folder / "run-00000000.json").write_text(json.dumps({"facts": facts, "stages": stages}))
    return folder


def test_a_finished_run_is_graded_again_beside_its_old_grades(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = (study / "run-00000000.json").read_text()
    assert main([str(study), "--grader", "release"]) == 0
    assert "2/2 = 100.0 %" in capsys.readouterr().out  # the release takes 0.25 for 25 %
    (new,) = {file for file in study.glob("*.json") if json.loads(file.read_text())["facts"]["grader"] == "release"}
    before, after = json.loads(old)["stages"], json.loads(new.read_text())["stages"]
    assert before["generate"] == after["generate"]
    assert before["grade"] != after["grade"]
    assert (study / "run-00000000.json").read_text() == old
    samples = pd.read_parquet(study.parents[1] / "stages" / before["grade"] / "samples.parquet")
    assert list(samples["correct"]) == [False, True]


def test_a_run_is_graded_again_with_the_tolerance_of_its_task(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = study / "run-00000000.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "config": {"task": {"relative_tolerance": 0.995}}}))
    assert main([str(study)]) == 0
    assert "2/2 = 100.0 %" in capsys.readouterr().out  # 0.25 lies within that of 25


def test_records_of_one_run_under_several_graders_become_one(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study), "--grader", "release"]) == 0
    capsys.readouterr()
    assert main([str(study)]) == 0
    assert capsys.readouterr().out.count("1/2 = 50.0 %") == 1
    records = list(study.glob("*.json"))
    assert main([str(study)]) == 0
    assert list(study.glob("*.json")) == records


def test_a_row_of_a_run_is_explained(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study), "--explain", "1"]) == 0
    assert "verdict    correct" in capsys.readouterr().out
    assert main([str(study), "--explain", "2"]) == 2
    assert "rows 0 to 1" in capsys.readouterr().err
    assert main([str(study / "absent")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
