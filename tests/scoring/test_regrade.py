"""The regrade command."""

import json
from pathlib import Path

import pytest

from ttsv.regrade import main


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
