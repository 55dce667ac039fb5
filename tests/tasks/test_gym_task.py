"""Generated problems are the same for the same seed, distinct, and stable when the size grows."""

import pytest

from ttsv.records import UserError
from ttsv.tasks import GymTask

ONE_DIGIT = {"chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}}


def gym(size=20, seed=0, families=ONE_DIGIT):
    return GymTask("toy", families, size, seed)


def test_the_same_seed_yields_the_same_problems_and_another_seed_others():
    assert gym().read() == gym().read()
    assert {p.question for p in gym(40, 0).load()} != {p.question for p in gym(40, 1).load()}


def test_neighbouring_seeds_are_not_the_same_questions_shifted_by_one():
    gcd = {"gcd": {}}
    first, second = ({p.question for p in gym(50, seed, gcd).load()} for seed in (0, 1))
    assert len(first & second) < 5


def test_ids_and_questions_stay_when_the_size_grows():
    families = {**ONE_DIGIT, "gcd": {}}
    small, large = (gym(size, families=families).load() for size in (21, 60))
    assert large[:21] == small


def test_no_question_occurs_twice_even_when_all_that_exist_are_taken():
    problems = gym(200).load()
    assert len({p.question for p in problems}) == len({p.id for p in problems}) == 200


def test_asking_for_more_than_exist_says_how_many_there_are():
    with pytest.raises(UserError, match=r"size is 201, but after 200 distinct questions"):
        gym(201).load()


def test_families_take_turns_and_are_the_subject():
    problems = gym(10, families={**ONE_DIGIT, "gcd": {}}).load()
    assert [p.subject for p in problems] == ["chain_sum", "gcd"] * 5


def test_an_unknown_family_is_an_error_that_lists_the_known_ones():
    for ask in (gym(families={"sums": {}}).load, gym(families={"sums": {}}).availability):
        with pytest.raises(UserError, match=r"no family 'sums'; it has: .*chain_sum"):
            ask()


def test_settings_that_the_family_refuses_are_an_error():
    with pytest.raises(UserError, match="refuses chain_sum"):
        gym(families={"chain_sum": {"no_such_setting": 1}}).load()


def test_provenance_names_generator_version_and_seed():
    provenance = gym(5, 3).read().provenance
    assert (provenance["source"], provenance["seed"], provenance["rows"]) == ("reasoning-gym", 3, 5)
    assert provenance["version"]
