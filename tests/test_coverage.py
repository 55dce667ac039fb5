"""The simulations behind the choice of intervals: they draw what they claim to, and the pages come from them."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from ttsv.coverage import intervals, verdicts
from ttsv.coverage.__main__ import main, simulate_all
from ttsv.coverage.intervals import bootstrap_of_counts, nested_bootstrap, shared_bootstrap, single_accuracy
from ttsv.stats import hierarchical_bootstrap, paired_bootstrap, wilson


def test_the_bootstrap_of_counts_is_the_paired_bootstrap() -> None:
    gained, lost, n = 30, 12, 198
    drawn = bootstrap_of_counts(np.random.default_rng(0), np.array([[gained, lost]]), n, resamples=20_000)
    after = np.repeat([1.0, -1.0, 0.0], [gained, lost, n - gained - lost])
    assert np.ravel(drawn) == pytest.approx(paired_bootstrap(np.zeros(n), after, seed=1), abs=1.5 / n)


@pytest.mark.parametrize("shared", [False, True])
def test_the_bootstraps_over_seeds_are_the_hierarchical_ones(shared: bool) -> None:
    rng = np.random.default_rng(0)
    scores = np.stack([rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.9 - gain, gain], size=100) for gain in (0.1, 0.2, 0.4)])
    simulated = (shared_bootstrap if shared else nested_bootstrap)(rng, scores[None], resamples=20_000)
    assert np.ravel(simulated) == pytest.approx(
        hierarchical_bootstrap(scores, seed=1, shared_problems=shared), abs=0.012
    )


def test_a_simulated_coverage_is_the_enumerated_one() -> None:
    n, truth, right = 40, 0.3, np.arange(41)
    low, high = wilson(right / n, n)
    exact = binom.pmf(right, n, truth)[(low <= truth) & (truth <= high)].sum()
    (found,) = (r for r in single_accuracy(n, truth)(np.random.default_rng(0), 20_000) if r.procedure == "Wilson")
    assert found.coverage == pytest.approx(exact, abs=4 * (0.05 * 0.95 / 20_000) ** 0.5)


def test_false_positives_are_counted_only_where_there_is_no_difference() -> None:
    none, some = (intervals.single_difference(40, 0.3, e)(np.random.default_rng(0), 500) for e in (0.0, 0.15))
    assert all(row.shown is None for row in some)
    assert all(row.shown == pytest.approx(1 - row.coverage) for row in none if row.coverage is not None)
    (test,) = (row for row in none if "McNemar" in row.procedure)
    assert test.shown is not None
    assert 0 < test.shown < 0.05


def test_a_strong_source_is_found_and_nothing_is_mostly_silent() -> None:
    rng = np.random.default_rng(0)
    strong = verdicts.simulate("prefix", verdicts.TRUTHS["prefix"], 500, 0.2)(rng, 30)
    nothing = verdicts.simulate("nothing", verdicts.NOTHING, 500, 0.0)(rng, 30)
    assert strong.right > 0.7
    assert nothing.right > 0.7
    assert strong.right + strong.silent + strong.wrong == pytest.approx(1)


def test_seeds_that_differ_are_not_taken_for_an_effect() -> None:
    rng = np.random.default_rng(0)
    found = verdicts.simulate("nothing", verdicts.NOTHING, 500, 0.0, seeds=3, sd=0.05)(rng, 150)
    assert found.sd == 0.05
    assert found.wrong < 0.05


def test_the_pages_depend_on_neither_the_number_of_processes_nor_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "SIZES", (30,))
    monkeypatch.setattr(verdicts, "SIZES", (64,))
    monkeypatch.setattr(verdicts, "EFFECTS", (0.2,))
    assert simulate_all(intervals, 20, 1) == simulate_all(intervals, 20, 2)
    assert main(["--datasets", "20", "--verdict-datasets", "2", "--jobs", "2", "--results", str(tmp_path)]) == 0
    page = (tmp_path / "interval_coverage.md").read_text()
    assert "--datasets 20" in page
    assert "| 30  | 3%      | Wilson" in page
    assert "| own problems" in (tmp_path / "verdict_rules.md").read_text()
