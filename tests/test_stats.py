"""Intervals and tests against closed forms and enumeration."""

from itertools import product
from math import comb, sqrt

import pytest
from scipy.stats import norm

from ttsv.stats import mcnemar, smallest_discordance, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (51, 100), (372, 500)])
def test_wilsons_interval_is_its_closed_form(right: int, n: int) -> None:
    z, p = norm.ppf(0.975), right / n
    centre, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = [(centre + side * half) / (1 + z * z / n) for side in (-1, 1)]
    assert wilson(p, n) == pytest.approx(expected, abs=1e-12)


def enumerated_p(gained: int, lost: int) -> float:
    """The two-sided p-value by going through every way in which the changes could have fallen."""
    n = gained + lost
    return sum(1 for signs in product((0, 1), repeat=n) if abs(sum(signs) - n / 2) >= abs(gained - n / 2)) / 2**n


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 0), (6, 0), (3, 3), (2, 7), (8, 4)])
def test_mcnemars_p_value_is_that_of_enumeration(gained: int, lost: int) -> None:
    before = [0] * gained + [1] * lost + [0, 1, 1]
    after = [1] * gained + [0] * lost + [0, 1, 1]
    found = mcnemar(before, after)
    assert (found.gained, found.lost) == (gained, lost)
    assert found.p == pytest.approx(enumerated_p(gained, lost) if gained + lost else 1.0)


def test_with_several_samples_the_signs_of_the_differences_are_tested() -> None:
    found = mcnemar([0.25, 0.5, 1.0, 0.0], [0.5, 0.25, 1.0, 1.0])
    assert (found.gained, found.lost) == (2, 1)


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.2])
def test_fewer_changes_than_the_smallest_discordance_can_never_reach_the_level(alpha: float) -> None:
    n = smallest_discordance(alpha)
    assert 2 * comb(n, n) / 2**n <= alpha
    assert 2 / 2 ** (n - 1) > alpha
