"""Published numbers stand beside full-scale runs of the same thing and of nothing else."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_tables import finished_run

from ttsv.published import COLUMNS, SOURCES, beside, command, read_published
from ttsv.records import UserError
from ttsv.report import EXPERIMENTS, write_report
from ttsv.stats import accuracy_interval
from ttsv.study import read_cells

FULL = {"model": "big", "task": "amc23", "scale": "full", "recipe": "paper", "prompt": "release", "adapt_on": "all"}


def claim(tmp_path: Path, *rows: str) -> Path:
    folder = tmp_path / "experiments" / "table_em"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "published.csv").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return tmp_path / "experiments"


def run(tmp_path: Path, method: str, verdicts: str, seed: int = 15, **facts: Any) -> None:
    adapted = {} if method == "none" else {"adapt_task": "amc23"}
    finished_run(tmp_path, method, verdicts, seed, "table_em", **{**FULL, **adapted, **facts})


def table(tmp_path: Path, *rows: str) -> pd.DataFrame:
    published = read_published(claim(tmp_path, *rows) / "table_em")
    assert published is not None
    return beside("table_em", published, read_cells(tmp_path / "runs" / "table_em", tmp_path)[0])


def test_a_difference_is_the_mean_over_seeds_minus_the_published_number(tmp_path: Path) -> None:
    run(tmp_path, "ttsv", "1111100000", seed=15)
    run(tmp_path, "ttsv", "1111111000", seed=16)
    (row,) = table(tmp_path, "big,amc23,ttsv,,,65.0,paper,").to_dict("records")
    assert (row["published"], row["reproduced"], row["seeds"], row["n"]) == (65.0, pytest.approx(60), 2, 10)
    assert row["difference"] == pytest.approx(-5)
    low, high = accuracy_interval([1, 1, 1, 1, 1, 0.5, 0.5, 0, 0, 0], 2)
    assert (row["low"], row["high"]) == pytest.approx((100 * low, 100 * high))
    assert row["command"] == ""


def test_a_run_without_a_vector_is_one_seed_however_often_it_is_recorded(tmp_path: Path) -> None:
    run(tmp_path, "none", "1100000000", seed=15)
    run(tmp_path, "none", "1100000000", seed=16)
    (row,) = table(tmp_path, "big,amc23,none,,,42.5,paper,").to_dict("records")
    assert (row["seeds"], row["difference"]) == (1, pytest.approx(-22.5))


def test_a_cell_that_was_not_run_is_shown_with_the_command_that_fills_it(tmp_path: Path) -> None:
    experiments = claim(tmp_path, "big,amc23,em,,,60.0,paper,", "big,aime24,ttsv,,,,not_available,")
    written = write_report(tmp_path, "table_em", experiments)
    text, folder = written.text, tmp_path / "runs" / "table_em"
    assert "2 published numbers, none of them reproduced yet" in written.brief
    assert "make table-em" not in written.brief
    assert (folder / "published.md").read_text() in text
    lines = [line for line in text.splitlines() if "not run" in line]
    assert len(lines) == 2
    assert "| 60.0 " in lines[0]
    assert "make table-em MODEL=big TASK=amc23 METHOD=em SCALE=full" in lines[0]
    assert "| n/a " in lines[1]
    frame = pd.read_csv(folder / "published.csv")
    assert frame["reproduced"].isna().all()
    assert frame["difference"].isna().all()
    assert "not run" in (folder / "published.tex").read_text()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"adapt_task": "math500"}, "make transfer MODEL=m TASK=t METHOD=ttsv ARGS=task@adapt_task=math500 SCALE=full"),
        (
            {"adapt_task": "t", "setting": "prompt=chat"},
            "make transfer MODEL=m TASK=t METHOD=ttsv PROMPT=chat SCALE=full",
        ),
        ({"setting": "a.b=1 c=2"}, 'make transfer MODEL=m TASK=t METHOD=ttsv ARGS="a.b=1 c=2" SCALE=full'),
    ],
)
def test_a_command_says_what_differs_from_the_experiment(row: dict[str, str], expected: str) -> None:
    known = {"model": "m", "task": "t", "method": "ttsv", "adapt_task": "", "setting": ""}
    assert command("transfer", {**known, **row}) == expected


def test_mini_runs_never_meet_a_published_number(tmp_path: Path) -> None:
    run(tmp_path, "none", "1100000000", scale="mini")
    run(tmp_path, "ttsv", "1111100000", scale="mini")
    experiments = claim(tmp_path, "big,amc23,none,,,42.5,paper,", "big,amc23,ttsv,,,65.0,paper,")
    text = write_report(tmp_path, "table_em", experiments).text
    frame = pd.read_csv(tmp_path / "runs" / "table_em" / "published.csv")
    assert len(frame) == 2
    assert frame[["reproduced", "difference", "seeds"]].isna().all(axis=None)
    mini = text.partition("## big on amc23")[2]
    assert "mini scale" in mini.splitlines()[0]
    assert "65.0" not in mini
    assert "42.5" not in mini


@pytest.mark.parametrize(
    "other",
    [
        {"model": "small"},
        {"task": "aime24"},
        {"adapt_task": "math500", "variant": "adapted on math500"},
        {"variant": "recipe.optimization.length=5"},
        {"aggregate": "majority"},
    ],
)
def test_a_run_of_something_else_is_not_beside_the_number(tmp_path: Path, other: dict[str, str]) -> None:
    run(tmp_path, "ttsv", "1111100000", **other)
    rows = table(tmp_path, "big,amc23,ttsv,,,65.0,paper,").to_dict("records")
    assert rows[0]["command"].startswith("make table-em")
    assert all(pd.isna(row["difference"]) for row in rows)


def test_settings_are_borne_out_by_overrides_facts_or_config(tmp_path: Path) -> None:
    run(tmp_path, "ttsv", "1100000000", variant="recipe.optimization.length=5")
    run(tmp_path, "ttsv", "1110000000", variant="recipe.optimization.length=10 seeds.order=3")
    run(tmp_path, "ttsv", "1111000000", adapt_task="math500", variant="adapted on math500")
    lines = [f"big,amc23,ttsv,,recipe.optimization.length={n},,not_available," for n in (5, 10, 20)]
    frame = table(tmp_path, *lines, "big,amc23,ttsv,math500,,62.5,paper,", "big,amc23,ttsv,,prompt=chat,1,paper,")
    found = [None if pd.isna(value) else round(value) for value in frame["reproduced"]]
    assert found == [20, 30, None, 40, None]
    assert list(frame["difference"].dropna()) == pytest.approx([-22.5])


def test_full_runs_that_were_not_published_stand_below(tmp_path: Path) -> None:
    run(tmp_path, "untrained_prefix", "1110000000")
    frame = table(tmp_path, "big,amc23,ttsv,,,65.0,paper,")
    assert list(frame["method"]) == ["ttsv", "untrained_prefix"]
    assert (frame["reproduced"].iloc[1], frame["note"].iloc[1]) == (pytest.approx(30), "not published")


def test_runs_under_other_conditions_are_rows_of_their_own(tmp_path: Path) -> None:
    run(tmp_path, "ttsv", "1110000000")
    run(tmp_path, "ttsv", "1111000000", seed=16, recipe="corrected")
    frame = table(tmp_path, "big,amc23,ttsv,,,65.0,paper,")
    assert list(frame["reproduced"]) == pytest.approx([30, 40])
    assert ["recipe paper" in frame["conditions"][0], "recipe corrected" in frame["conditions"][1]] == [True, True]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("big,amc23,ttsv,,,65.0,rumour,", "line 2: source is 'rumour'; expected is one of paper, derived"),
        ("big,amc23,ttsv,,,65.0,not_available,", "not_available goes with an empty accuracy"),
        ("big,amc23,ttsv,,,,paper,", "not_available goes with an empty accuracy"),
        ("big,amc23,ttsv,,,650,paper,", "accuracy is '650'; expected is a number of percent"),
        ("big,amc23,ttsv,,,nan,paper,", "accuracy is 'nan'"),
    ],
)
def test_a_number_and_its_source_go_together(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_published(claim(tmp_path, row) / "table_em")


def test_other_columns_are_named(tmp_path: Path) -> None:
    folder = claim(tmp_path) / "table_em"
    (folder / "published.csv").write_text("model,score\nbig,1\n")
    with pytest.raises(UserError, match="has columns model, score; expected are model, task, method"):
        read_published(folder)


def test_every_claim_of_this_repository_can_be_read_and_has_its_words() -> None:
    folders = sorted(path.parent for path in EXPERIMENTS.glob("*/published.csv"))
    assert len(folders) == 12
    for folder in folders:
        published = read_published(folder)
        assert published is not None
        assert set(published["source"]) <= set(SOURCES)
        target = "reproduce-math500" if folder.name == "math500" else folder.name.replace("_", "-")
        words = (folder / "README.md").read_text()
        assert f"make {target} " in words
        assert f"make {target} SCALE=mini" in words


def test_the_claims_numbers_are_those_of_the_reference(shared: Path) -> None:
    if not (shared / "reference" / "published.csv").is_file():
        pytest.skip(f"no reference/published.csv in {shared}")
    reference = pd.read_csv(shared / "reference" / "published.csv")
    keys = ["model", "task", "method"]
    known = {(*map(str, row[keys]), row["accuracy_percent"], row["source"]) for _, row in reference.iterrows()}
    given = set()
    for file in EXPERIMENTS.glob("*/published.csv"):
        published = read_published(file.parent)
        assert published is not None
        numbers = published[published["source"] != "not_available"]
        given |= {(*map(str, row[keys]), row["accuracy"], row["source"]) for _, row in numbers.iterrows()}
    assert given == known
