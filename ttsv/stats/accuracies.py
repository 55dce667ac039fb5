"""Intervals of an accuracy."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_confint

SMALL = 50
"""Below this many problems Wilson's interval falls short: enumerated over accuracies of 1 to 99 %, it covers 89.9 % at worst with 30
problems, Agresti and Coull's 93.4 %; with 198 they cover 93.5 and 94.3 % at worst, and Wilson's is the shorter on average."""

FEW = 5
"""Below this many problems' worth of right (or of wrong) answers, the spread between problems is not estimated but assumed largest."""


def wilson(mean: npt.ArrayLike, problems: npt.ArrayLike, confidence: float = 0.95) -> tuple[Any, Any]:
    """Return the Wilson score interval of an accuracy (shares of 1) over ``problems``."""
    mean, problems = np.asarray(mean, dtype=float), np.asarray(problems, dtype=float)
    low, high = proportion_confint(mean * problems, problems, alpha=1 - confidence, method="wilson")
    return low, high


def clopper_pearson(right: npt.ArrayLike, problems: npt.ArrayLike, confidence: float = 0.95) -> tuple[Any, Any]:
    """Return the exact interval of Clopper and Pearson (1934) for ``right`` of ``problems``: never below its level, often well above."""
    low, high = proportion_confint(np.asarray(right), np.asarray(problems), alpha=1 - confidence, method="beta")
    return low, high


def accuracy_interval(scores: npt.ArrayLike, samples: int = 1, confidence: float = 0.95) -> tuple[Any, Any]:
    """Return the interval of the mean score (..., N) over the problems that these were drawn from; two arrays (...).

    With one sample per problem: Wilson's; of fewer than 50 problems, Agresti and Coull's (1998). With several, clustered by problem:
    Wilson's with the effective number of independent answers, mean (1 - mean) / squared standard error, kept between N and
    N x ``samples``, and Student's quantile (after Korn and Graubard 1998, who do so for Clopper-Pearson). Where fewer than five problems'
    worth of answers are right, or wrong, the observed spread is too small too often, and N is taken.

    Raises:
        ValueError: for no problems.
    """
    scores = np.asarray(scores, dtype=float)
    problems = scores.shape[-1]
    if not problems:
        raise ValueError("an interval needs at least one problem")
    mean = scores.mean(axis=-1)
    if problems == 1 or samples == 1:
        method = "agresti_coull" if problems < SMALL else "wilson"
        low, high = proportion_confint(mean * problems, problems, alpha=1 - confidence, method=method)
        return low, high
    squared_error = scores.var(axis=-1, ddof=1) / problems
    few = problems * np.minimum(mean, 1 - mean) < FEW
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(few, problems, np.clip(mean * (1 - mean) / squared_error, problems, problems * samples))
    quantile = student.ppf((1 + confidence) / 2, problems - 1)
    return wilson(mean, effective, 2 * float(norm.cdf(quantile)) - 1)
