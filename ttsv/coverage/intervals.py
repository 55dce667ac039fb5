"""Simulated data sets for the intervals and tests of :mod:`ttsv.stats`, many at a time.

Where a data set is summed up by how many problems were gained and lost, each distinct pair of counts is evaluated once, by the very
functions that the tables call. The bootstraps are drawn from their exact law given these counts (resampling problems with replacement
makes the counts multinomial) instead of problem by problem.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from ttsv.stats import accuracy_interval, clopper_pearson, difference_interval, mcnemar, wilson

SIZES = (30, 40, 198, 500)
CHUNK = 500
"""Data sets held in memory at a time."""

Values = npt.NDArray[np.float64]
Simulation = Callable[[np.random.Generator, int], list["Row"]]


@dataclass(frozen=True)
class Row:
    """How a procedure did on data sets of one truth: shares of 1; ``shown`` is how often it stated a difference where none was."""

    section: str
    problems: int
    truth: str
    procedure: str
    coverage: float | None
    width: float | None
    shown: float | None = None


class Tally:
    """Running means of coverage and width, weighted by how many data sets had the result."""

    def __init__(self, truth: float) -> None:
        self.truth = truth
        self.sums: dict[str, Values] = {}

    def add(self, procedure: str, interval: tuple[Values, Values], weights: npt.ArrayLike = 1.0) -> None:
        """Count intervals, two arrays (R,), each ``weights`` times."""
        low, high = (np.asarray(end, dtype=float) for end in interval)
        weights = np.broadcast_to(np.asarray(weights, dtype=float), low.shape)
        inside = (low <= self.truth + 1e-12) & (self.truth - 1e-12 <= high)
        found = np.array([(inside * weights).sum(), ((high - low) * weights).sum(), weights.sum()])
        self.sums[procedure] = self.sums.get(procedure, np.zeros(3)) + found

    def rows(self, section: str, problems: int, truth: str, null: bool = False) -> list[Row]:
        """Return a row per procedure; with ``null`` the truth is no difference, so a miss is a false positive."""
        return [
            Row(section, problems, truth, name, inside / n, width / n, 1 - inside / n if null else None)
            for name, (inside, width, n) in ((name, sums.tolist()) for name, sums in self.sums.items())
        ]


def single_accuracy(problems: int, accuracy: float) -> Simulation:
    """One sample a problem."""

    def simulate(rng: np.random.Generator, datasets: int) -> list[Row]:
        right = rng.binomial(problems, accuracy, size=datasets)
        tally = Tally(accuracy)
        share = right / problems
        half = 1.96 * np.sqrt(share * (1 - share) / problems)
        tally.add("normal approximation", (share - half, share + half))
        tally.add("Clopper-Pearson", clopper_pearson(right, problems))
        tally.add("Wilson", wilson(share, problems))
        counts, times = np.unique(right, return_counts=True)
        scores = np.arange(problems) < counts[:, None]
        tally.add("**Agresti-Coull (n < 50) or Wilson**", accuracy_interval(scores), times)
        return tally.rows("accuracy", problems, f"{accuracy:.0%}")

    return simulate


def clustered_accuracy(problems: int, samples: int, accuracy: float, spread: float) -> Simulation:
    """Several samples a problem, whose chances of being right are Beta with a + b = ``spread``: the smaller, the more alike its samples."""

    def simulate(rng: np.random.Generator, datasets: int) -> list[Row]:
        tally = Tally(accuracy)
        for size in _chunks(datasets):
            chances = _chances(rng, (size, problems), accuracy, spread)
            scores = rng.binomial(samples, chances) / samples
            tally.add("Student", _student(scores))
            tally.add("Wilson, samples as problems", wilson(scores.mean(axis=1), problems * samples))
            tally.add("Wilson, N problems", wilson(scores.mean(axis=1), problems))
            tally.add("**clustered Wilson**", accuracy_interval(scores, samples))
        return tally.rows("avg@k", problems, f"k={samples}, {accuracy:.0%}, a+b={spread:g}")

    return simulate


def single_difference(problems: int, changed: float, effect: float) -> Simulation:
    """One sample a problem; a share ``changed`` of the problems changes, so that the accuracy rises by ``effect``."""

    def simulate(rng: np.random.Generator, datasets: int) -> list[Row]:
        chances = [(changed + effect) / 2, (changed - effect) / 2, 1 - changed]
        counts = rng.multinomial(problems, chances, size=datasets)[:, :2]
        pairs, times = np.unique(counts, axis=0, return_counts=True)
        place = np.arange(problems)
        scores = (place < pairs[:, :1]).astype(float) - (
            (place >= pairs[:, :1]) & (place < pairs.sum(1, keepdims=True))
        )
        tally = Tally(effect)
        tally.add("Student", _student(scores), times)
        tally.add("paired bootstrap", bootstrap_of_counts(rng, pairs, problems), times)
        tally.add("**two imaginary problems**", difference_interval(scores[:, None]), times)
        truth = f"{changed:.0%} change, {100 * effect:+.0f} points"
        rows = tally.rows("difference", problems, truth, null=effect == 0)
        if effect == 0:
            p_values = [mcnemar(np.repeat([0, 1], pair), np.repeat([1, 0], pair)).p for pair in pairs]
            shown = float(((np.array(p_values) < 0.05) * times).sum() / datasets)
            rows.append(Row("difference", problems, truth, "**McNemar's exact test**", None, None, shown))
        return rows

    return simulate


def bootstrap_of_counts(
    rng: np.random.Generator, pairs: npt.NDArray[np.int64], problems: int, resamples: int = 1000
) -> tuple[Values, Values]:
    """Return the percentile bootstrap of data sets given as (gained, lost) counts (R, 2)."""
    gained, lost = pairs[:, :1], pairs[:, 1:]
    again = rng.binomial(problems, gained / problems, size=(len(pairs), resamples))
    rest = np.maximum(problems - gained, 1)
    less = rng.binomial(problems - again, np.minimum(lost / rest, 1))
    low, high = np.quantile((again - less) / problems, [0.025, 0.975], axis=1)
    return low, high


def clustered_difference(problems: int, samples: int, accuracy: float, spread: float, effect: float) -> Simulation:
    """Several samples a problem in both arms; the effect turns the same share of each problem's wrong answers into right ones."""

    def simulate(rng: np.random.Generator, datasets: int) -> list[Row]:
        tally, flips = Tally(effect), 0.0
        for size in _chunks(datasets):
            chances = _chances(rng, (size, problems), accuracy, spread)
            better = chances + effect / (1 - accuracy) * (1 - chances)
            scores = (rng.binomial(samples, better) - rng.binomial(samples, chances)) / samples
            tally.add("Student", _student(scores))
            tally.add("**two imaginary problems**", difference_interval(scores[:, None], samples))
            flips += float((_flip_p(rng, scores) < 0.05).sum()) if effect == 0 else 0
        truth = f"k={samples}, {accuracy:.0%}, a+b={spread:g}, {100 * effect:+.0f} points"
        rows = tally.rows("difference of avg@k", problems, truth, null=effect == 0)
        if effect == 0:
            rows.append(Row("difference of avg@k", problems, truth, "**sign-flip test**", None, None, flips / datasets))
        return rows

    return simulate


def seeds_difference(problems: int, seeds: int, spread_of_seeds: float, effect: float) -> Simulation:
    """A method with several seeds against one baseline, on the same problems; the seeds' true gains are normal around ``effect``."""

    def simulate(rng: np.random.Generator, datasets: int) -> list[Row]:
        tally = Tally(effect)
        for size in _chunks(datasets):
            chances = 0.3 + 0.3 * rng.beta(0.5, 0.5, size=(size, 1, problems))
            before = rng.random((size, 1, problems)) < chances
            gains = np.clip(effect + spread_of_seeds * rng.standard_normal((size, seeds, 1)), -0.3, 0.4)
            scores = (rng.random((size, seeds, problems)) < chances + gains).astype(float) - before
            tally.add("hierarchical bootstrap", nested_bootstrap(rng, scores))
            tally.add("the same, problems shared", shared_bootstrap(rng, scores))
            tally.add("**seeds and problems added**", difference_interval(scores))
        truth = f"{seeds} seeds, sd {100 * spread_of_seeds:.0f}, {100 * effect:+.0f} points"
        return tally.rows("difference over seeds", problems, truth, null=effect == 0)

    return simulate


def nested_bootstrap(rng: np.random.Generator, scores: Values, resamples: int = 500) -> tuple[Values, Values]:
    """Return percentiles of ``hierarchical_bootstrap`` for data sets (R, S, N) of differences -1, 0 and 1."""
    datasets, seeds, problems = scores.shape
    gained, lost = (scores > 0).mean(axis=2), (scores < 0).mean(axis=2)
    chosen = rng.integers(seeds, size=(datasets, resamples * seeds))
    more, fewer = (np.take_along_axis(share, chosen, axis=1) for share in (gained, lost))
    again = rng.binomial(problems, more)
    less = rng.binomial(problems - again, np.minimum(fewer / np.maximum(1 - more, 1e-12), 1))
    means = (again - less).reshape(datasets, resamples, seeds).mean(axis=2) / problems
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return low, high


def shared_bootstrap(rng: np.random.Generator, scores: Values, resamples: int = 500) -> tuple[Values, Values]:
    """Return percentiles of ``hierarchical_bootstrap(shared_problems=True)`` for data sets (R, S, N), all under the same resamples."""
    _, seeds, problems = scores.shape
    of_problems = rng.multinomial(problems, np.full(problems, 1 / problems), size=resamples) / problems
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    by_seed = np.tensordot(scores.astype(np.float32), of_problems.astype(np.float32), axes=(2, 1))
    low, high = np.quantile(np.einsum("rsb,bs->rb", by_seed, of_seeds), [0.025, 0.975], axis=1)
    return low, high


def simulations() -> Iterator[Simulation]:
    """Yield what the page reports."""
    for n in SIZES:
        yield from (single_accuracy(n, accuracy) for accuracy in (0.03, 0.1, 0.3, 0.5, 0.9))
        for samples in (4, 32):
            for accuracy, spread in ((0.05, 0.3), (0.3, 0.3), (0.3, 2.0), (0.7, 20.0)):
                yield clustered_accuracy(n, samples, accuracy, spread)
            for accuracy, spread in ((0.05, 0.3), (0.3, 0.3), (0.3, 2.0)):
                yield from (clustered_difference(n, samples, accuracy, spread, effect) for effect in (0.0, 0.1))
        for changed in (0.05, 0.2, 0.4):
            yield from (single_difference(n, changed, share * changed) for share in (0.0, 0.5, 0.9))
        for seeds in (3, 5):
            yield from (seeds_difference(n, seeds, spread, 0.0) for spread in (0.0, 0.03, 0.08))
            yield seeds_difference(n, seeds, 0.03, 0.1)


def _chunks(datasets: int) -> list[int]:
    return [min(CHUNK, datasets - start) for start in range(0, datasets, CHUNK)]


def _chances(rng: np.random.Generator, shape: tuple[int, int], mean: float, spread: float) -> Values:
    return rng.beta(mean * spread, (1 - mean) * spread, size=shape)


def _student(scores: Values) -> tuple[Values, Values]:
    """Return the interval of the mean of (R, N) values that takes them for normal."""
    problems = scores.shape[1]
    half = student.ppf(0.975, problems - 1) * scores.std(axis=1, ddof=1) / np.sqrt(problems)
    return scores.mean(axis=1) - half, scores.mean(axis=1) + half


def _flip_p(rng: np.random.Generator, scores: Values, flips: int = 999) -> Values:
    """Return the sign-flip test's p-values of data sets (R, N), all under the same flips."""
    signs = rng.choice(np.array([-1, 1], dtype=np.float32), size=(scores.shape[1], flips))
    observed = np.abs(scores.sum(axis=1))
    sums = np.abs(scores.astype(np.float32) @ signs)
    return np.asarray((1 + (sums >= observed[:, None] - 1e-3).sum(axis=1)) / (flips + 1))
