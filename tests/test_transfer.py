"""Transfer matrices, from run records alone, against a count by hand of the per-sample files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from tiny_tables import finished_run

from ttsv.report import write_report
from ttsv.study import read_cells
from ttsv.transfer import transfers

TASKS = ("gcd", "sums")
VERDICTS = {
    ("gcd", "gcd"): ("1111100000", "1111110000"),
    ("sums", "gcd"): ("1111000000", "1110000000"),
    ("gcd", "sums"): ("0000000001", "0000000011"),
    ("sums", "sums"): ("1100000011", "1100000001"),
}
NONE = {"gcd": "1100000000", "sums": "0000000000"}
SHARED = {"model": "small", "scale": "mini"}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for task, verdicts in NONE.items():
        finished_run(tmp_path, "none", verdicts, study="transfer", task=task, problems=task, **SHARED)
    for (adapt_task, task), of_seeds in VERDICTS.items():
        variant = "" if adapt_task == task else f"adapted on {adapt_task}"
        facts = {"task": task, "problems": task, "adapt_task": adapt_task, "variant": variant, **SHARED}
        for seed, verdicts in enumerate(of_seeds):
            finished_run(tmp_path, "ttsv", verdicts, seed, "transfer", **facts)
    return tmp_path


def by_hand(results: Path) -> dict[tuple[str, str], float]:
    """Accuracy in percent per (adaptation task, task), means over seeds, straight from the files."""
    found: dict[tuple[str, str], list[float]] = {}
    for file in (results / "runs" / "transfer").glob("*.json"):
        record = json.loads(file.read_text())
        samples = pd.read_parquet(results / "stages" / record["stages"]["grade"] / "samples.parquet")
        key = (record["facts"].get("adapt_task", ""), record["facts"]["task"])
        found.setdefault(key, []).append(100 * samples["correct"].mean())
    return {key: float(np.mean(values)) for key, values in found.items()}


def test_matrices_are_those_of_the_per_sample_files(results: Path) -> None:
    text, hand = write_report(results, "transfer").text, by_hand(results)
    frame = pd.read_csv(results / "runs" / "transfer" / "transfer.csv")
    assert len(frame) == 4
    for row in frame.to_dict("records"):
        accuracy, before = hand[row["adapt_task"], row["task"]], hand["", row["task"]]
        assert row["accuracy"] == pytest.approx(accuracy)
        assert row["gain"] == pytest.approx(accuracy - before)
        assert row["seeds"] == 2
        if before:
            assert row["relative"] == pytest.approx(100 * (accuracy / before - 1))
        else:
            assert pd.isna(row["relative"])
    section = text.partition("## Transfer of ttsv, small: prompt None, recipe None, mini scale")[2]
    assert "| gcd          | 55.0  | 15.0   |" in section
    assert "| sums         | 35.0  | 35.0   |" in section


def test_own_vectors_against_others_is_the_mean_of_paired_differences(results: Path) -> None:
    def mean(adapt_task: str, task: str) -> np.ndarray:
        return np.mean([[int(d) for d in v] for v in VERDICTS[adapt_task, task]], axis=0)

    differences = [mean("gcd", "gcd") - mean("sums", "gcd"), mean("sums", "sums") - mean("gcd", "sums")]
    centre = 100 * np.mean([d.mean() for d in differences])
    half = 100 * norm.ppf(0.975) * np.sqrt(sum(d.var(ddof=1) / 10 for d in differences)) / 2
    (found,) = transfers(read_cells(results / "runs" / "transfer", results)[0])
    assert found.own == pytest.approx((centre, centre - half, centre + half))
    assert (
        f"mean over tasks: {centre:+.1f} points (95 %: {centre - half:+.1f} to"
        in write_report(results, "transfer").text
    )


def test_a_missing_pair_is_a_gap_and_not_a_zero(results: Path) -> None:
    for file in (results / "runs" / "transfer").glob("ttsv-*-small-gcd-sums-*.json"):
        file.unlink()
    (found,) = transfers(read_cells(results / "runs" / "transfer", results)[0])
    assert pd.isna(found.matrix("accuracy").loc["sums", "gcd"])
    section = write_report(results, "transfer").text.partition("## Transfer")[2]
    assert "| sums         | -     | 35.0   |" in section


def test_vectors_that_met_only_their_own_task_are_no_transfer(tmp_path: Path) -> None:
    finished_run(tmp_path, "ttsv", "10", study="s", task="gcd", adapt_task="gcd", problems="gcd")
    assert transfers(read_cells(tmp_path / "runs" / "s", tmp_path)[0]) == []


def test_the_heat_maps_are_drawn_and_named_mini(results: Path) -> None:
    text = write_report(results, "transfer").text
    drawn = results / "runs" / "transfer" / "figures" / "transfer-ttsv-small-mini"
    assert drawn.with_suffix(".png").stat().st_size > 1000
    picture = drawn.with_suffix(".svg").read_text()
    assert "Transfer of ttsv: small (mini scale), 2 seeds" in picture
    assert "+35.0" in picture
    assert "figures/transfer-ttsv-small-mini.png" in text
