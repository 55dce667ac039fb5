"""Subsets and halves are seeded, do not depend on the order of the list, and lose nothing."""

from collections import Counter

import pytest

from ttsv.records import Problem, UserError
from ttsv.tasks import halves, subset


def problems(n=101, levels=3):
    return [Problem(f"p{i}", "q", "1", "toy", level=str(i % levels) if levels else None) for i in range(n)]


def ids(chosen):
    return [problem.id for problem in chosen]


def test_a_subset_keeps_the_original_order_and_depends_on_the_seed_alone():
    chosen = subset(problems(), 10, seed=0)
    assert len(chosen) == 10
    assert ids(chosen) == sorted(ids(chosen), key=ids(problems()).index)
    assert set(ids(subset(problems()[::-1], 10, seed=0))) == set(ids(chosen))
    assert set(ids(subset(problems(), 10, seed=1))) != set(ids(chosen))


def test_a_smaller_subset_is_part_of_a_larger_one():
    assert set(ids(subset(problems(), 5, 0))) < set(ids(subset(problems(), 50, 0)))


def test_no_limit_or_one_beyond_the_end_keeps_all():
    assert subset(problems(), None, 0) == subset(problems(), 1000, 0) == problems()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_an_error(limit):
    with pytest.raises(UserError, match="at least 1"):
        subset(problems(), limit, 0)


def test_halves_are_disjoint_cover_everything_and_are_equal():
    first, second = halves(problems(), 0)
    assert first | second == set(ids(problems()))
    assert not first & second
    assert (len(first), len(second)) == (51, 50)


def test_halves_do_not_depend_on_the_order_of_the_list_but_on_the_seed():
    assert halves(problems()[::-1], 0) == halves(problems(), 0)
    assert halves(problems(), 1) != halves(problems(), 0)


@pytest.mark.parametrize("levels", [0, 3, 7])
def test_each_level_is_split_to_within_one(levels):
    first, second = halves(problems(levels=levels), 0)
    level = {problem.id: problem.level for problem in problems(levels=levels)}
    counts = [Counter(level[i] for i in half) for half in (first, second)]
    assert all(abs(counts[0][name] - counts[1][name]) <= 1 for name in set(level.values()))


def test_without_levels_subjects_are_the_strata():
    mixed = [Problem(f"p{i}", "q", "1", "toy", subject="ab"[i % 2]) for i in range(20)]
    first, _ = halves(mixed, 0)
    assert Counter(p.subject for p in mixed if p.id in first) == {"a": 5, "b": 5}


def test_one_problem_cannot_be_halved():
    with pytest.raises(UserError, match="at least 2"):
        halves(problems(1), 0)
