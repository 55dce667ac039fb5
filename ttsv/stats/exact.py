"""Exact paired tests, their adjustment for several tests, and what a number of problems can show at all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import bdtr
from scipy.stats import binom, permutation_test
from statsmodels.stats.multitest import multipletests

PERMUTATIONS = 20_000
"""Sign flips drawn where there are too many to enumerate; the smallest p-value is then 1 / 10 000."""


@dataclass(frozen=True)
class Paired:
    """Two methods on the same problems: how often the second is better and worse, and the exact two-sided p-value of equality."""

    gained: int
    lost: int
    p: float


def mcnemar(before: npt.ArrayLike, after: npt.ArrayLike) -> Paired:
    """Return the exact test of per-problem scores (N,) in [0, 1], paired by position.

    For single samples it is McNemar's exact test (McNemar 1947). For shares of several samples it is the sign-flip test on the mean
    difference, which for single samples is the same test.
    """
    difference = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    if not gained + lost:
        return Paired(0, 0, 1.0)
    if np.isin(difference, (-1, 0, 1)).all():
        return Paired(gained, lost, min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5))))
    return Paired(gained, lost, sign_flip(difference))


def sign_flip(differences: npt.ArrayLike, seed: int = 0) -> float:
    """Return the two-sided p-value of a mean of ``differences`` (N,) if each sign were as likely as the other (Fisher 1935).

    Enumerated where there are few; else from seeded draws, with the observed one counted among them, so that the level holds.
    """
    changed = np.asarray(differences, dtype=float)
    changed = changed[changed != 0]
    if not len(changed):
        return 1.0
    found = permutation_test(
        (changed,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=2000,
        rng=np.random.default_rng(seed),
    )
    return min(1.0, float(found.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being looked at together (Holm 1979): below a level, the chance of any false one is at most that."""
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


def smallest_discordance(alpha: float = 0.05) -> int:
    """Return how many problems must change, all in one direction, before the exact test can reach ``alpha``."""
    return math.ceil(1 - math.log2(alpha))


def power(effect: float, discordance: float, problems: int, alpha: float = 0.05) -> float:
    """Return how often McNemar's exact test shows a true difference ``effect`` where a share ``discordance`` of the problems changes.

    The number of changed problems is binomial, and so is, given it, the number of those that were gained.
    """
    changed = np.arange(problems + 1)
    tail = np.asarray(binom.ppf(alpha / 2, changed, 0.5)).astype(int)
    tail -= binom.cdf(tail, changed, 0.5) > alpha / 2
    gained = (1 + effect / discordance) / 2
    rejects = binom.cdf(tail, changed, gained) + binom.cdf(tail, changed, 1 - gained)
    return float(np.sum(binom.pmf(changed, problems, min(discordance, 1.0)) * rejects))


def smallest_effect(problems: int, discordance: float, alpha: float = 0.05, wanted: float = 0.8) -> float | None:
    """Return the smallest true difference (a share of 1) that the exact test shows with power ``wanted``, or None if there is none.

    ``discordance`` is the share of problems whose verdict changes. Where a difference must exceed it to be shown, all changes are taken
    to go in its direction; 0 gives this best case.
    """

    def missing(effect: float) -> float:
        return power(effect, max(discordance, effect), problems, alpha) - wanted

    return float(brentq(missing, 1e-9, 1.0, xtol=1e-6)) if missing(1.0) >= 0 else None
