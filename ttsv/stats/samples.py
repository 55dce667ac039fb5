"""Scores per problem of several samples: avg@k, pass@k, maj@k. Their intervals, clustered by problem: :func:`accuracy_interval`."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

Values = npt.NDArray[np.float64]


def avg_at_k(right: npt.ArrayLike, samples: npt.ArrayLike) -> Values:
    """Return the share of right samples per problem (N,), from the numbers of right samples and of samples (N,)."""
    return np.asarray(np.asarray(right, dtype=float) / np.asarray(samples))


def pass_at_k(right: npt.ArrayLike, samples: npt.ArrayLike, k: int) -> Values:
    """Return per problem (N,) the chance that k of its samples, drawn without replacement, hold a right one (Chen et al. 2021).

    Unbiased for the chance that k fresh samples hold a right one.

    Raises:
        ValueError: if a problem has fewer than k samples.
    """
    right, samples = np.asarray(right), np.asarray(samples)
    if k < 1 or (samples < k).any():
        raise ValueError(
            f"pass@{k} needs at least k = {k} >= 1 samples of each problem; the fewest are {samples.min()}"
        )
    return np.asarray(1 - hypergeom.pmf(0, samples, right, k))


def maj_at_k(answers: Sequence[str | None], right: Sequence[bool]) -> float:
    """Return how often the most frequent of one problem's k answers is right, ties broken at random (the expectation, so no seed).

    Answers are equal if their extracted texts are; a sample without an answer (None) has no vote, and without votes the score is 0.
    Should a grader have ruled differently on equal texts (a timeout), the class counts with its share of right verdicts.

    Raises:
        ValueError: if there are not as many verdicts as answers.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    of_answer: dict[str | None, list[bool]] = {}
    for answer, verdict in zip(answers, right, strict=True):
        of_answer.setdefault(answer, []).append(verdict)
    most = max(votes.values(), default=0)
    winners = [float(np.mean(of_answer[answer])) for answer, count in votes.items() if count == most]
    return float(np.mean(winners)) if winners else 0.0
