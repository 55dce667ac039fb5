"""Seeded bootstraps of a mean difference. The tables use :func:`ttsv.stats.difference_interval`, which covers better at small sizes."""

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

RESAMPLES = 9_999


def paired_bootstrap(
    before: npt.ArrayLike, after: npt.ArrayLike, *, seed: int, confidence: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the percentile interval of the mean of ``after`` - ``before`` (N,), problems resampled in pairs (Efron 1979)."""
    differences = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    found = bootstrap(
        (differences,),
        np.mean,
        method="percentile",
        vectorized=True,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=1000,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def hierarchical_bootstrap(
    differences: npt.ArrayLike,
    *,
    seed: int,
    shared_problems: bool = False,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the percentile interval of the mean of ``differences`` (S, N): seeds are resampled, and problems within each.

    With ``shared_problems`` the same resampled problems serve all seeds (the pigeonhole bootstrap, Owen 2007), as befits seeds that were
    evaluated on the same problems.
    """
    values = np.asarray(differences, dtype=float)
    seeds, problems = values.shape
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for place in range(resamples):
        of_seeds = rng.integers(seeds, size=(seeds, 1))
        of_problems = rng.integers(problems, size=(1 if shared_problems else seeds, problems))
        means[place] = values[of_seeds, of_problems].mean()
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
