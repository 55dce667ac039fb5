"""Reports: from records and stage directories alone, of which damaged and foreign ones are named and never used."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_tables import finished_run, rows_of

from ttsv.records import UserError
from ttsv.report import main, write_report


def stage_of(file: Path, kind: str) -> Path:
    folder: str = json.loads(file.read_text())["stages"][kind]
    return file.parents[2] / "stages" / folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    finished_run(tmp_path, "none", "0000001111")
    finished_run(tmp_path, "ttsv", "1111101110")
    return tmp_path


def test_a_report_is_kept_as_markdown_and_csv(results: Path) -> None:
    text = write_report(results, "study").text
    assert text in (results / "runs" / "study" / "summary.md").read_text()
    frame = pd.read_csv(results / "runs" / "study" / "summary.csv")
    assert list(frame["method"]) == ["none", "ttsv"]
    assert list(frame["gain_none"].fillna(0)) == pytest.approx([0, 40])
    assert "+40.0 (+100 %)" in text
    assert "5 / 1" in text
    assert "16.7 to 68.8" in text
    assert "Smallest true difference that so many problems show" in text
    assert "too thin" in text
    assert "Left out" not in text


def test_a_terminal_shows_what_it_has_room_for_and_says_where_the_rest_is(results: Path) -> None:
    brief = write_report(results, "study").brief
    assert brief.startswith("# study\n")
    table = [line for line in brief.splitlines() if line.startswith("|")]
    assert "+40.0 (+100 %)" in table[3]
    assert "Holm p (none)" in table[0]
    assert "w→r" not in table[0]
    assert "too thin" in brief
    assert brief.endswith(f"{results / 'runs' / 'study'}/summary.md (.csv, .tex)")


def edit_samples(file: Path) -> Path:
    target = stage_of(file, "grade") / "samples.parquet"
    rows_of("1111111111").to_parquet(target)
    return target


def remove_metrics(file: Path) -> Path:
    target = stage_of(file, "generate") / "metrics.json"
    target.unlink()
    return target


def remove_a_stage(file: Path) -> Path:
    shutil.rmtree(stage_of(file, "adapt"))
    return stage_of(file, "adapt")


def swap_a_stage(file: Path) -> Path:
    own, other = stage_of(file, "grade"), stage_of(file.with_name("none-15.json"), "grade")
    shutil.rmtree(own)
    shutil.copytree(other, own)
    return own


def cut_the_record(file: Path) -> Path:
    file.write_text(file.read_text()[:100])
    return file


def record_of_another_kind(file: Path) -> Path:
    file.write_text(json.dumps({"facts": {}, "optimised_ids": [], "stages": {}}))
    return file


def record_that_is_a_list(file: Path) -> Path:
    file.write_text("[]")
    return file


@pytest.mark.parametrize(
    "damage",
    [
        edit_samples,
        remove_metrics,
        remove_a_stage,
        swap_a_stage,
        cut_the_record,
        record_of_another_kind,
        record_that_is_a_list,
    ],
)
def test_a_damaged_run_is_named_and_left_out(results: Path, damage: Any) -> None:
    place = damage(results / "runs" / "study" / "ttsv-15.json")
    text = write_report(results, "study").text
    left_out = text.partition("## Left out")[2].partition("*half*")[0]
    assert str(place) in left_out
    assert "ttsv" not in text.partition("## Left out")[0]
    assert list(pd.read_csv(results / "runs" / "study" / "summary.csv")["method"]) == ["none"]


def test_a_study_of_damaged_runs_alone_has_a_report_that_says_so(results: Path) -> None:
    for file in (results / "runs" / "study").glob("*.json"):
        cut_the_record(file)
    assert write_report(results, "study").text.count("is not a readable run record") == 2


def test_runs_of_other_conditions_stand_in_other_tables(results: Path) -> None:
    finished_run(results, "untrained_prefix", "1100001111", prompt="question")
    text = write_report(results, "study").text
    assert text.count("| method") == 2
    assert "gain over untrained" not in text


def test_a_generation_that_seeds_share_is_one_row(results: Path) -> None:
    finished_run(results, "none", "0000001111", seed=16)
    finished_run(results, "ttsv", "1111101111", seed=16)
    frame = pd.read_csv((write_report(results, "study"), results / "runs" / "study" / "summary.csv")[1])
    assert list(zip(frame["method"], frame["seed"].astype(str), strict=True)) == [
        ("none", "15"),
        ("ttsv", "15"),
        ("ttsv", "16"),
        ("ttsv", "mean"),
    ]
    assert list(frame["gain_none"].dropna()) == pytest.approx([40, 50, 45])


def test_a_run_stopped_before_grading_is_no_row(results: Path) -> None:
    file = results / "runs" / "study" / "ttsv-15.json"
    record = json.loads(file.read_text())
    del record["stages"]["grade"]
    file.write_text(json.dumps(record))
    assert "ttsv" not in write_report(results, "study").text.partition("*half*")[0]


def test_a_study_that_is_not_there_is_named_with_those_that_are(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"no graded runs in .*/typo; studies there are: study"):
        write_report(results, "typo")
    assert main(["typo", "--results", str(results)]) == 2
    assert "studies there are: study" in capsys.readouterr().err
    assert not (results / "runs" / "typo").exists()
    assert main(["--results", str(results)]) == 0


def test_a_report_needs_no_torch() -> None:
    code = "import sys, ttsv.report; assert not {'torch', 'transformers', 'hydra', 'wandb'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
