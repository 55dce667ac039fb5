"""Intervals and paired tests, by scipy and statsmodels."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint


@dataclass(frozen=True)
class Paired:
    """Two methods on the same problems: how often the second is better and worse, and the exact two-sided p-value of equality."""

    gained: int
    lost: int
    p: float


def wilson(mean: float, problems: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of an accuracy (shares of 1) over ``problems``.

    With several samples per problem the problems are counted, not the samples: samples of one problem are not independent.
    """
    low, high = proportion_confint(mean * problems, problems, alpha=1 - confidence, method="wilson")
    return float(low), float(high)


def mcnemar(before: npt.ArrayLike, after: npt.ArrayLike) -> Paired:
    """Return the exact McNemar test of per-problem scores (N,) in [0, 1], paired by position.

    For single samples it is McNemar's exact test (McNemar 1947); for shares of several samples it is the sign test on their differences, of
    which McNemar's is the special case.
    """
    difference = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    p = float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    return Paired(gained, lost, p)


def smallest_discordance(alpha: float = 0.05) -> int:
    """Return how many problems must change, all in one direction, before the exact test can reach ``alpha``."""
    return math.ceil(1 - math.log2(alpha))
