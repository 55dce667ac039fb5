"""A vector is traced to the draw that it started from, with exactly its drift; chance is not taken for a trace."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.auditing.conftest import LENGTH, WIDTH, drift
from ttsv.auditing.initializations import ORDERS, initial_vectors
from ttsv.auditing.vectors import examine_vector, row_measures, summary
from ttsv.soft_prompt import load_soft_prompt

FIRST = "nn.Embedding(L, d), first draw"


@pytest.mark.parametrize("order", ORDERS)
def test_the_draw_that_a_vector_started_from_is_found_with_its_drift(order: str) -> None:
    moved = drift().numpy()
    initial = initial_vectors(order, 4, LENGTH, WIDTH)
    found = examine_vector((initial + moved).astype(np.float32), seeds=range(6))
    assert found.matched
    assert found.candidates["seed"].iloc[0] == 4
    assert order in set(found.candidates.loc[found.candidates["same_draw"], "order"])
    exact = float(np.linalg.norm(moved.astype(np.float64)) / np.linalg.norm(initial.astype(np.float64)))
    measured = found.candidates.set_index(["order", "seed"]).loc[(order, 4), "relative_drift"]
    assert measured == pytest.approx(exact, rel=1e-4)
    assert found.null().abs().max() < 0.2


def test_a_draw_of_an_unknown_seed_is_no_match() -> None:
    found = examine_vector(initial_vectors(FIRST, 1000, LENGTH, WIDTH), seeds=range(6))
    assert not found.matched


def test_a_scaled_draw_is_found() -> None:
    found = examine_vector(0.02 * initial_vectors(FIRST, 3, LENGTH, WIDTH), seeds=range(6))
    assert found.matched
    assert found.summary["correlation"] == pytest.approx(1)
    assert found.summary["relative_drift"] == pytest.approx(0.98)


def test_the_movement_of_a_row_is_its_own() -> None:
    initial = initial_vectors(FIRST, 0, LENGTH, WIDTH)
    moved = initial.copy()
    moved[3] *= 1.25
    rows = row_measures(moved, initial)
    assert rows["relative_movement"].round(6).tolist() == [0.25 if row == 3 else 0 for row in range(LENGTH)]
    assert rows["correlation"].min() == pytest.approx(1)


def test_rows_that_move_alike_are_told_from_rows_that_move_apart() -> None:
    initial = initial_vectors(FIRST, 0, LENGTH, WIDTH)
    direction = initial_vectors(FIRST, 1, 1, WIDTH)
    apart = initial_vectors(FIRST, 2, LENGTH, WIDTH)
    assert summary(initial + direction, initial)["movement_alignment"] == pytest.approx(1)
    measured = summary(initial + apart, initial)
    assert abs(measured["movement_alignment"]) < 5 * measured["movement_alignment_null_sd"]


def test_the_spread_of_alignment_under_independence_is_as_stated() -> None:
    initial = initial_vectors(FIRST, 0, LENGTH, WIDTH)
    generator = np.random.default_rng(0)
    summaries = [summary(initial + generator.standard_normal(initial.shape), initial) for _ in range(400)]
    stated = summaries[0]["movement_alignment_null_sd"]
    assert np.std([measured["movement_alignment"] for measured in summaries]) == pytest.approx(stated, rel=0.15)


def test_the_caller_s_random_numbers_are_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    for order in ORDERS:
        initial_vectors(order, 5, LENGTH, WIDTH)
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize(
    ("folder", "correlation", "drift"),
    [("qwen2.5-math-1.5b_math500", 0.9970, 0.078), ("qwen2.5-math-7b_math500", 0.9996, 0.027)],
)
def test_the_released_vectors_started_from_seed_15(
    reference: Path, folder: str, correlation: float, drift: float
) -> None:
    found = examine_vector(
        load_soft_prompt(reference / folder / "prefix_embeddings.pt").vectors.numpy(), seeds=(14, 15, 16)
    )
    assert found.matched
    assert found.best == f"{FIRST}, seed 15"
    assert found.summary["correlation"] == pytest.approx(correlation, abs=5e-5)
    assert found.summary["relative_drift"] == pytest.approx(drift, abs=5e-4)
    assert found.null().abs().max() < 0.03
