"""How far a vector is from untrained ones: correlation, drift and the movement of its rows."""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from ttsv.auditing.findings import VectorFindings
from ttsv.auditing.initializations import ORDERS, initial_vectors

Matrix = npt.NDArray[np.float32] | npt.NDArray[np.float64]

SEEDS = range(51)
CHANCE = 1e-6
"""A match is named where chance gives so high a correlation to any one of the candidates with at most this probability."""

SAME = 0.999
"""Correlation of two draws from which they are one draw, but for the precision that it was made in."""


def examine_vector(vectors: npt.NDArray[np.float32], seeds: Iterable[int] = SEEDS) -> VectorFindings:
    """Compare ``vectors`` (L, d) with every candidate of ``ORDERS`` x ``seeds``."""
    length, width = vectors.shape
    measured = []
    for order in ORDERS:
        for seed in seeds:
            candidate = initial_vectors(order, seed, length, width)
            measured.append((order, seed, correlation(vectors, candidate), relative_drift(vectors, candidate)))
    frame = pd.DataFrame(measured, columns=["order", "seed", "correlation", "relative_drift"])
    frame = frame.sort_values("correlation", ascending=False, kind="stable", ignore_index=True)
    best = frame.iloc[0]
    initial = initial_vectors(str(best["order"]), int(best["seed"]), length, width)
    frame["same_draw"] = [
        seed == best["seed"] and correlation(initial_vectors(order, seed, length, width), initial) > SAME
        for order, seed in zip(frame["order"], frame["seed"], strict=True)
    ]
    # Independent entries correlate like N(0, 1/n); Bonferroni over the candidates.
    chance = len(frame) * float(norm.sf(best["correlation"] * math.sqrt(length * width)))
    rows, whole = row_measures(vectors, initial), summary(vectors, initial)
    return VectorFindings(vectors, initial, frame, chance <= CHANCE, rows, whole)


def correlation(first: Matrix, second: Matrix) -> float:
    """Return Pearson's correlation of all entries of two arrays of one shape."""
    return float(np.corrcoef(first.ravel().astype(np.float64), second.ravel().astype(np.float64))[0, 1])


def relative_drift(vectors: Matrix, initial: Matrix) -> float:
    """Return the norm of the difference in units of the initial norm."""
    difference = vectors.astype(np.float64) - initial
    return float(np.linalg.norm(difference) / np.linalg.norm(initial.astype(np.float64)))


def row_measures(vectors: Matrix, initial: Matrix) -> pd.DataFrame:
    """Return a row per virtual token, in order: norms, correlation, movement (norm of the difference) and movement over initial norm."""
    moved = np.linalg.norm(vectors.astype(np.float64) - initial, axis=1)
    before = np.linalg.norm(initial.astype(np.float64), axis=1)
    return pd.DataFrame(
        {
            "row": range(len(vectors)),
            "norm": np.linalg.norm(vectors.astype(np.float64), axis=1),
            "initial_norm": before,
            "correlation": [correlation(v, i) for v, i in zip(vectors, initial, strict=True)],
            "movement": moved,
            "relative_movement": moved / before,
        }
    )


def summary(vectors: Matrix, initial: Matrix) -> dict[str, float]:
    """Return the numbers of the whole vector against one initialisation.

    ``rms_movement``, ``largest_movement``: of single entries. ``movement_alignment``: mean cosine between the movements of
    different rows; for independent directions it has mean 0 and standard deviation ``movement_alignment_null_sd``.
    """
    moved = vectors.astype(np.float64) - initial
    length, width = vectors.shape
    pairs = length * (length - 1)
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    directions = np.divide(moved, norms, out=np.zeros_like(moved), where=norms > 0)
    cosines = directions @ directions.T
    aligned = float(cosines.sum() - np.trace(cosines))
    return {
        "virtual_tokens": length,
        "width": width,
        "correlation": correlation(vectors, initial),
        "relative_drift": relative_drift(vectors, initial),
        "entry_mean": float(vectors.mean(dtype=np.float64)),
        "entry_std": float(vectors.std(dtype=np.float64)),
        "rms_movement": float(np.sqrt(np.square(moved).mean())),
        "largest_movement": float(np.abs(moved).max()),
        "movement_alignment": aligned / pairs if pairs else math.nan,
        "movement_alignment_null_sd": math.sqrt(2 / (pairs * width)) if pairs else math.nan,
    }
