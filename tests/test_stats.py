"""Intervals and tests against closed forms and enumeration."""

from itertools import combinations, product
from math import comb, sqrt
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binom, norm
from scipy.stats import t as student

from ttsv.stats import (
    accuracy_interval,
    avg_at_k,
    clopper_pearson,
    difference_interval,
    difference_p,
    hierarchical_bootstrap,
    holm,
    maj_at_k,
    mcnemar,
    paired_bootstrap,
    pass_at_k,
    sign_flip,
    smallest_discordance,
    smallest_effect,
    wilson,
)
from ttsv.stats.exact import power


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


@pytest.mark.parametrize("n", [1, 7, 30])
def test_clopper_and_pearsons_interval_is_its_closed_form_and_never_below_its_level(n: int) -> None:
    right = np.arange(n + 1)
    low, high = clopper_pearson(right, n)
    assert low[1:] == pytest.approx(beta.ppf(0.025, right[1:], n - right[1:] + 1), abs=1e-9)
    assert high[:-1] == pytest.approx(beta.ppf(0.975, right[:-1] + 1, n - right[:-1]), abs=1e-9)
    assert enumerated_coverage(low, high, n).min() >= 0.95


def enumerated_coverage(low: Any, high: Any, n: int) -> Any:
    """Coverage at accuracies of 1 to 99 %, over all numbers of right answers."""
    truth = np.linspace(0.01, 0.99, 197)
    chances = binom.pmf(np.arange(n + 1)[:, None], n, truth)
    return (chances * ((np.asarray(low)[:, None] <= truth) & (truth <= np.asarray(high)[:, None]))).sum(axis=0)


@pytest.mark.parametrize("n", [30, 40, 198])
def test_the_tables_interval_of_an_accuracy_never_falls_below_93_percent(n: int) -> None:
    scores = np.arange(n) < np.arange(n + 1)[:, None]
    assert enumerated_coverage(*accuracy_interval(scores), n).min() >= 0.93
    if n < 50:
        assert enumerated_coverage(*wilson(np.arange(n + 1) / n, n), n).min() < 0.93


def test_samples_that_only_repeat_their_problem_count_once_and_independent_ones_each() -> None:
    repeated = accuracy_interval([1.0] * 30 + [0.0] * 30, samples=8)
    quantile = 2 * norm.cdf(student.ppf(0.975, 59)) - 1
    assert repeated == pytest.approx(wilson(0.5, 60, quantile), abs=1e-12)
    independent = accuracy_interval([0.5] * 60, samples=8)
    assert independent == pytest.approx(wilson(0.5, 480, quantile), abs=1e-12)
    rare = accuracy_interval([0.5] * 4 + [0.0] * 56, samples=8)
    assert rare == pytest.approx(wilson(2 / 60, 60, quantile), abs=1e-12)
    with pytest.raises(ValueError, match="at least one problem"):
        accuracy_interval([])


@pytest.mark.parametrize("n", [6, 17, 40])
def test_the_exact_test_never_rejects_more_often_than_its_level(n: int) -> None:
    p_values = {
        (g, c - g): mcnemar([0] * g + [1] * (c - g), [1] * g + [0] * (c - g)).p
        for c in range(n + 1)
        for g in range(c + 1)
    }
    for changed in (0.02, 0.1, 0.3, 0.7, 1.0):
        for alpha in (0.01, 0.05, 0.2):
            level = sum(
                binom.pmf(g + w, n, changed) * binom.pmf(g, g + w, 0.5) for (g, w), p in p_values.items() if p <= alpha
            )
            assert level <= alpha + 1e-12


def test_the_sign_flip_test_is_enumeration_and_for_single_samples_mcnemars() -> None:
    changes = [0.5, -0.25, 0.75, 1.0, 0.25, 0.25]
    sums = [abs(np.dot(signs, np.abs(changes))) for signs in product((-1, 1), repeat=6)]
    expected = np.mean(np.array(sums) >= sum(changes) - 1e-9)
    assert sign_flip([*changes, 0.0, 0.0]) == pytest.approx(expected, abs=1e-6)
    assert mcnemar(np.zeros(6), changes).p == pytest.approx(expected, abs=1e-6)
    assert sign_flip([1.0] * 8 + [-1.0] * 2) == pytest.approx(enumerated_p(8, 2), abs=1e-6)
    assert sign_flip([0.0, 0.0]) == 1


def test_the_sign_flip_test_keeps_its_level_for_any_sizes_of_the_changes() -> None:
    sizes = np.array([0.125, 0.25, 0.25, 0.5, 0.75, 1.0, 1.0])
    p_values = np.array([sign_flip(sizes * signs) for signs in product((-1, 1), repeat=7)])
    assert all((p_values <= alpha).mean() <= alpha for alpha in (0.02, 0.05, 0.1, 0.3))


def test_drawn_sign_flips_are_seeded_and_never_give_a_p_value_of_zero() -> None:
    changes = np.resize([0.5, 0.25, 0.75, -0.25], 60)
    assert 0 < sign_flip(changes, seed=1) == sign_flip(changes, seed=1) < 0.001
    weak = np.resize([0.5, -0.25, 0.25, -0.4], 60)
    assert sign_flip(weak, seed=1) != sign_flip(weak, seed=2)
    assert sign_flip(weak, seed=1) == pytest.approx(sign_flip(weak, seed=2), abs=0.02)


def test_holms_adjustment_is_that_counted_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert holm([]) == []


@pytest.mark.parametrize(("effect", "changed"), [(0.0, 0.3), (0.2, 0.3), (0.3, 0.3), (0.1, 0.6)])
def test_power_is_that_of_enumeration(effect: float, changed: float) -> None:
    n, gains, losses = 14, (changed + effect) / 2, (changed - effect) / 2
    total = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            if mcnemar([0] * gained + [1] * lost, [1] * gained + [0] * lost).p <= 0.05:
                ways = comb(n, gained) * comb(n - gained, lost)
                total += ways * gains**gained * losses**lost * (1 - changed) ** (n - gained - lost)
    assert power(effect, changed, n) == pytest.approx(total, abs=1e-9)


def test_the_smallest_effect_is_where_power_is_reached_and_none_where_it_cannot_be() -> None:
    found = smallest_effect(64, 0.25)
    assert found is not None
    assert power(found, 0.25, 64) == pytest.approx(0.8, abs=1e-3)
    one_way = smallest_effect(64, 0.0)
    assert one_way is not None
    assert one_way < found
    assert power(one_way, one_way, 64) == pytest.approx(0.8, abs=1e-3)
    assert smallest_effect(5, 0.2) is None
    halved = smallest_effect(256, 0.25)
    assert halved is not None
    assert halved == pytest.approx(found / 2, rel=0.15)


def test_the_paired_bootstrap_is_seeded_and_agrees_with_enumeration() -> None:
    before, after = np.zeros(5), np.array([1.0, 1.0, 0.0, 0.0, -1.0])
    means = sorted(np.mean(chosen) for chosen in product(after, repeat=5))
    first = paired_bootstrap(before, after, seed=1, confidence=0.8)
    assert first == paired_bootstrap(before, after, seed=1, confidence=0.8)
    assert first == pytest.approx(np.quantile(means, [0.1, 0.9]), abs=1e-9)
    rng = np.random.default_rng(0)
    smooth = rng.random(50)
    assert paired_bootstrap(np.zeros(50), smooth, seed=1) != paired_bootstrap(np.zeros(50), smooth, seed=2)


def test_the_hierarchical_bootstrap_is_seeded_and_knows_whether_problems_are_shared() -> None:
    rng = np.random.default_rng(0)
    one = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=(1, 80))
    same = np.repeat(one, 4, axis=0)
    apart = hierarchical_bootstrap(same, seed=1)
    shared = hierarchical_bootstrap(same, seed=1, shared_problems=True)
    assert apart == hierarchical_bootstrap(same, seed=1)
    assert apart != hierarchical_bootstrap(same, seed=2)
    paired = paired_bootstrap(np.zeros(80), one[0], seed=3)
    assert np.diff(shared) == pytest.approx(np.diff(paired), rel=0.06)
    assert np.diff(apart) == pytest.approx(np.diff(paired) / 2, rel=0.06)


def test_the_interval_of_a_difference_is_bonett_and_prices_closed_form() -> None:
    gained, lost, n = 9, 4, 40
    low, high = difference_interval(np.repeat([[1, -1, 0]], [gained, lost, n - gained - lost], axis=1))
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = norm.ppf(0.975) * sqrt((up + down - (up - down) ** 2) / (n + 2))
    assert (low, high) == pytest.approx((up - down - half, up - down + half), abs=1e-12)
    unchanged = difference_interval(np.zeros((1, n)))
    assert unchanged == pytest.approx((-unchanged[1], unchanged[1]))
    assert unchanged[1] > 1 / n


def test_seeds_that_agree_leave_the_error_of_the_problems_and_two_seeds_none_at_all() -> None:
    one = np.repeat([1.0, -1.0, 0.0], [9, 4, 27])
    same = np.repeat(one[None], 4, axis=0)
    low, high = difference_interval(same)
    padded = np.concatenate([one, [0.5, -0.5]])
    half = student.ppf(0.975, 41) * padded.std(ddof=1) / sqrt(42)
    assert (low, high) == pytest.approx((padded.mean() - half, padded.mean() + half), abs=1e-12)
    differing = same + np.array([[-0.2], [-0.1], [0.1], [0.2]])
    assert np.diff(difference_interval(differing)) > 1.5 * (high - low)
    with pytest.raises(ValueError, match="got 2 seeds"):
        difference_interval(same[:2])


def test_an_interval_over_seeds_that_differ_keeps_the_strict_levels_of_an_adjustment() -> None:
    rng, datasets, problems, level = np.random.default_rng(0), 2000, 500, 0.05 / 8
    gains = 0.05 * rng.standard_normal((datasets, 3, 1))
    answers = (rng.random((datasets, 3, problems)) < 0.5 + gains).astype(float) - 0.5
    low, high = difference_interval(answers, confidence=1 - level)
    assert ((low > 0) | (high < 0)).mean() < level + 3 * sqrt(level / datasets)


def test_the_p_value_over_seeds_is_where_the_interval_reaches_zero() -> None:
    rng = np.random.default_rng(0)
    differences = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=(3, 60))
    p = difference_p(differences)
    assert 0.0001 < p < 0.1
    assert difference_interval(differences, confidence=1 - p)[0] == pytest.approx(0, abs=1e-9)
    assert difference_p(np.zeros((3, 60))) == 1
    assert difference_p(differences[:1]) == mcnemar(np.zeros(60), differences[0]).p


def test_intervals_of_many_data_sets_at_once_are_those_of_each() -> None:
    differences = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=(5, 3, 30))
    low, high = difference_interval(differences, samples=2)
    assert [(a, b) for a, b in zip(low, high, strict=True)] == [
        pytest.approx(difference_interval(one, samples=2)) for one in differences
    ]


def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample_and_unbiased() -> None:
    for right, samples, k in ((0, 5, 2), (2, 5, 2), (4, 6, 3), (5, 5, 1)):
        marks = [1] * right + [0] * (samples - right)
        subsets = [any(chosen) for chosen in combinations(marks, k)]
        assert pass_at_k([right], [samples], k)[0] == pytest.approx(np.mean(subsets), abs=1e-9)
    right = np.arange(9)
    expected = binom.pmf(right, 8, 0.3) @ pass_at_k(right, np.full(9, 8), 3)
    assert expected == pytest.approx(1 - 0.7**3, abs=1e-9)
    with pytest.raises(ValueError, match="pass@4 needs"):
        pass_at_k([1, 1], [4, 3], 4)


def test_avg_at_1_is_pass_at_1() -> None:
    assert avg_at_k([0, 2, 3], [4, 4, 4]) == pytest.approx(pass_at_k([0, 2, 3], [4, 4, 4], 1))


@pytest.mark.parametrize(
    ("answers", "right", "score"),
    [
        (["5", "5", "7"], [True, True, False], 1),
        (["5", "7", "7"], [True, False, False], 0),
        (["5", "7"], [True, False], 0.5),
        (["5", "7", "8", "8", "5"], [True, False, False, False, True], 0.5),
        ([None, None, "5"], [False, False, True], 1),
        ([None, None], [False, False], 0),
        (["5", "5"], [True, False], 0.5),
    ],
)
def test_a_majority_is_of_equal_answers_and_ties_are_broken_at_random(
    answers: list[str | None], right: list[bool], score: float
) -> None:
    assert maj_at_k(answers, right) == pytest.approx(score)
