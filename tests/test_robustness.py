"""Noise floor: which runs are compared, how many answers flip, and what difference such flips could make."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import beta
from tiny_tables import finished_run

from ttsv.report import write_report
from ttsv.robustness import robustness
from ttsv.study import read_cells

BASE = "1111100000"


def config(batch_size: int = 32, dtype: str = "float32", temperature: float = 0.0) -> dict[str, Any]:
    decoding = {"batch_size": batch_size, "sort_by_length": True, "sampling": {"temperature": temperature}}
    recipe = {"evaluation": {"decoding": decoding, "samples": 1, "seed": 15}, "dtype": {"evaluate": dtype}}
    return {"recipe": recipe, "engine": {"_target_": "ttsv.engines.hf.HFEngine"}}


def run(results: Path, verdicts: str, name: str, method: str = "none", **changes: Any) -> None:
    course = [] if method == "none" else [{"update": 1, "response_tokens": 1, "prompt_tokens": 1, "entropy": 1.0}]
    facts = {"model": "tiny", "task": "sums", "prompt": "release", "scale": "mini", "conditions": name}
    finished_run(results, method, verdicts, course=course, config=config(**changes), **facts)


def test_flips_are_counted_over_every_pair_of_settings(tmp_path: Path) -> None:
    run(tmp_path, BASE, "a", method="ttsv")
    run(tmp_path, "1111010000", "b", method="ttsv", batch_size=8)
    run(tmp_path, "1110010000", "c", method="ttsv", dtype="bfloat16")
    (found,) = robustness(read_cells(tmp_path / "runs" / "study", tmp_path)[0])
    pairs = found.frame.set_index(["first", "second"])
    flips = pairs[["wrong_to_right", "right_to_wrong", "answers_differ"]]
    assert list(flips.loc[("batch_size 32", "batch_size 8")]) == [1, 1, 2]
    assert list(flips.loc[("dtype float32", "dtype bfloat16")]) == [1, 2, 3]
    assert list(flips.loc[("dtype float32, batch_size 8", "dtype bfloat16, batch_size 32")]) == [0, 1, 1]
    assert found.flips == 3
    limit = beta.ppf(0.95, 3 + 1, 10 - 3)
    assert found.floor == pytest.approx(100 * 2 * math.sqrt(10 * limit) / 10)
    text = write_report(tmp_path, "study").text
    assert "## Noise floor: ttsv, seed 15" in text
    assert "Up to 3 of 10 verdicts flip (30.0 %), though nothing but the arithmetic differs; " in text
    assert f"differ by less than {found.floor:.1f} points" in text
    assert len(pd.read_csv(tmp_path / "runs" / "study" / "robustness.csv")) == 3


def test_where_no_verdict_flipped_the_floor_is_not_zero(tmp_path: Path) -> None:
    run(tmp_path, BASE, "a")
    run(tmp_path, BASE, "b", batch_size=8)
    (found,) = robustness(read_cells(tmp_path / "runs" / "study", tmp_path)[0])
    assert found.flips == 0
    assert found.possible == pytest.approx(10 * (1 - 0.05**0.1))
    assert "Up to 0 of 10 verdicts flip (0.0 %)" in found.sentence()
    assert "may be 2.6 of so many" in found.sentence()


def test_runs_that_differ_in_more_than_the_arithmetic_are_no_pair(tmp_path: Path) -> None:
    run(tmp_path, BASE, "a")
    run(tmp_path, "1111100001", "b", temperature=0.7)
    run(tmp_path, "1111100011", "c", method="ttsv", batch_size=8)
    assert robustness(read_cells(tmp_path / "runs" / "study", tmp_path)[0]) == []
    assert "Noise floor" not in write_report(tmp_path, "study").text
