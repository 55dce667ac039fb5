"""The interval and the test of a difference between two methods on the same problems: one place for the choice of procedure.

Chosen by simulation (``results/interval_coverage.md``), at 95 % and 30 to 500 problems:

- one seed: two imaginary problems are added, one gained and one lost (Bonett and Price 2012), each of the size that a change has with that
  many samples a problem, 1 / sqrt(samples). Where few problems change (5 % of 30) the interval without them covers 76 % at worst, and the
  percentile bootstrap 66 %; this one 95.7 to 100 % over the truths simulated, and 94.8 to 95.6 % with 500 problems.
- three seeds and more: problems and seeds are both drawn, and every seed sees the same problems. The squared standard errors of problems
  and of seeds are added, each under Student's quantile of its own (Banerjee 1960): 96.0 to 98.1 %. Both hold the noise of single answers,
  which is taken off the problems. Taken off the seeds, it leaves nothing of them in one data set of several, and ranges at the strict
  levels of an adjustment miss 4 % where 0.6 % are allowed. Three seeds bound little at such levels. Resampling the problems of each seed
  apart (the hierarchical bootstrap) takes the shared problems for fresh ones: 79 to 88 %; with problems shared, it falls to 86 % with
  three seeds that differ.
- two seeds bound nothing: they give no interval.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from ttsv.stats.exact import mcnemar

MIN_SEEDS = 3
TINY = 1e-12
"""The smallest p-value of a difference over seeds."""
Values = npt.NDArray[np.float64]


def difference_interval(
    differences: npt.ArrayLike, samples: int = 1, confidence: float = 0.95
) -> tuple[Values, Values]:
    """Return the interval of the mean of ``differences`` (..., S, N), scores after minus scores before; two arrays (...).

    S seeds (1, or at least 3) by N problems; ``samples`` per problem and seed, the smaller number of the two methods.

    Raises:
        ValueError: for two seeds, or for no problems.
    """
    centre, of_problems, of_seeds = _errors(differences, samples)
    seeds, problems = np.shape(differences)[-2:]
    half = _half_width(1 - confidence, of_problems, of_seeds, seeds, problems)
    return np.maximum(centre - half, -1), np.minimum(centre + half, 1)


def difference_p(differences: npt.ArrayLike, samples: int = 1) -> float:
    """Return the two-sided p-value of no difference (S, N): exact for one seed, for several the level at which the interval reaches 0.

    Raises:
        ValueError: for two seeds, or for no problems.
    """
    differences = np.asarray(differences, dtype=float)
    seeds, problems = differences.shape
    if seeds == 1:
        return mcnemar(np.zeros(problems), differences[0]).p
    centre, of_problems, of_seeds = _errors(differences, samples)

    def excess(level: float) -> float:
        return abs(float(centre)) - float(_half_width(level, of_problems, of_seeds, seeds, problems))

    if excess(1.0) <= 0:
        return 1.0
    return float(brentq(excess, TINY, 1.0, xtol=TINY)) if excess(TINY) < 0 else TINY


def _errors(differences: npt.ArrayLike, samples: int) -> tuple[Values, Values, Values]:
    """Return the mean and the squared standard errors of it that problems and seeds cause; arrays (...)."""
    found = np.asarray(differences, dtype=float)
    seeds, problems = found.shape[-2:]
    if not problems or seeds < 1 or 1 < seeds < MIN_SEEDS:
        raise ValueError(
            f"got {seeds} seeds by {problems} problems; expected 1 seed or at least {MIN_SEEDS}, and problems"
        )
    size = np.full((*found.shape[:-1], 1), (samples * seeds) ** -0.5)
    found = np.concatenate([found, size, -size], axis=-1)
    by_problem, by_seed = found.mean(axis=-2), found.mean(axis=-1)
    centre = by_problem.mean(axis=-1)
    if seeds == 1:
        return centre, by_problem.var(axis=-1) / (problems + 2), np.zeros_like(centre)
    noise = found - by_problem[..., None, :] - by_seed[..., :, None] + centre[..., None, None]
    of_noise = (noise**2).sum(axis=(-2, -1)) / ((seeds - 1) * (problems + 1) * seeds * (problems + 2))
    of_problems = by_problem.var(axis=-1, ddof=1) / (problems + 2)
    # Both hold the noise of single answers. Taken off the seeds, it would leave nothing of them in one data set of several.
    return centre, np.maximum(of_problems - of_noise, 0), by_seed.var(axis=-1, ddof=1) / seeds


def _half_width(level: float, of_problems: Values, of_seeds: Values, seeds: int, problems: int) -> Values:
    tail = level / 2
    if seeds == 1:
        return np.asarray(-ndtri(tail) * np.sqrt(of_problems))
    squares = stdtrit(problems + 1, tail) ** 2 * of_problems + stdtrit(seeds - 1, tail) ** 2 * of_seeds
    return np.asarray(np.sqrt(squares))
