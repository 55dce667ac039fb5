"""The comparison table on an example small enough to be counted by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_tables import cell, rows_of

from ttsv.metrics import metrics
from ttsv.sentences import resolution, verdicts
from ttsv.stats import accuracy_interval, difference_interval, difference_p, mcnemar, smallest_effect
from ttsv.study import SHARED_FACTS, grouped
from ttsv.tables import Cell, Group, comparison

NONE = "0000001111"
UNTRAINED = "1100001111"
TRAINED = "1111101110"


def group(*cells: Cell) -> Group:
    return Group("title", cells)


def verdicts_of(cells: Group) -> list[str]:
    return verdicts(comparison(cells))


def resolution_of(cells: Group) -> str | None:
    return resolution(comparison(cells))


def row(found: pd.DataFrame, **where: Any) -> dict[str, Any]:
    for name, value in where.items():
        found = found[found[name] == value]
    assert len(found) == 1, found
    return dict(found.iloc[0])


def test_gains_tests_and_flows_are_those_counted_by_hand() -> None:
    cells = group(cell("none", NONE), cell("untrained_prefix", UNTRAINED), cell("ttsv", TRAINED))
    found = comparison(cells)
    assert list(found["method"]) == ["none", "untrained_prefix", "ttsv"]
    none, trained = row(found, method="none"), row(found, method="ttsv")
    assert (none["accuracy"], none["n"], none["half"]) == (40.0, 10, "all")
    assert pd.isna(none["gain_none"])
    assert pd.isna(none["gain_untrained_prefix"])
    assert trained["accuracy"] == pytest.approx(80)
    assert trained["gain_none"] == pytest.approx(40)
    assert trained["relative_none"] == pytest.approx(100)
    assert (trained["wrong_to_right_none"], trained["right_to_wrong_none"]) == (5, 1)
    assert trained["p_none"] == pytest.approx(2 * (1 + 6) / 2**6)
    assert trained["gain_untrained_prefix"] == pytest.approx(20)
    assert trained["relative_untrained_prefix"] == pytest.approx(100 / 3)
    assert (trained["wrong_to_right_untrained_prefix"], trained["right_to_wrong_untrained_prefix"]) == (3, 1)


def test_a_baseline_without_a_right_answer_has_no_relative_gain() -> None:
    found = comparison(group(cell("none", "0000"), cell("ttsv", "1100")))
    assert row(found, method="ttsv")["gain_none"] == pytest.approx(50)
    assert pd.isna(row(found, method="ttsv")["relative_none"])


def test_halves_are_shown_apart_where_problems_were_held_out() -> None:
    optimised = frozenset(f"p{n}" for n in range(5))
    cells = group(cell("none", NONE, optimised=optimised), cell("ttsv", TRAINED, optimised=optimised))
    found = comparison(cells)
    assert list(found["half"]) == ["optimised", "optimised", "held-out", "held-out"]
    assert [row(found, half=h, method="ttsv")["accuracy"] for h in ("optimised", "held-out")] == [100, 60]
    assert [row(found, half=h, method="ttsv")["gain_none"] for h in ("optimised", "held-out")] == [
        100,
        pytest.approx(-20),
    ]
    assert [row(found, half=h, method="ttsv")["n"] for h in ("optimised", "held-out")] == [5, 5]


def test_two_seeds_have_a_mean_with_a_spread_and_no_test_of_its_own() -> None:
    cells = group(cell("none", NONE), cell("ttsv", TRAINED, seed=1), cell("ttsv", UNTRAINED, seed=2))
    mean = row(comparison(cells), seed="mean")
    assert mean["accuracy"] == pytest.approx(70)
    assert mean["gain_none"] == pytest.approx(30)
    assert pd.isna(mean["p_none"])
    assert pd.isna(mean["ci_low"])
    assert mean["note"] == "2 seeds, 60.0 to 80.0 %"


def test_from_three_seeds_on_the_mean_gain_has_an_interval_and_a_test() -> None:
    seeds = ("1111101110", "1101101111", "1111001111")
    cells = group(cell("none", NONE), *(cell("ttsv", verdicts, seed=s) for s, verdicts in enumerate(seeds)))
    mean = row(comparison(cells), seed="mean")
    differences = np.array([[int(a) - int(b) for a, b in zip(after, NONE, strict=True)] for after in seeds])
    low, high = difference_interval(differences)
    assert mean["gain_none"] == pytest.approx(100 * differences.mean())
    assert (mean["gain_low_none"], mean["gain_high_none"]) == pytest.approx((100 * low, 100 * high))
    assert mean["p_none"] == pytest.approx(difference_p(differences))
    assert "ttsv (mean over seeds) against none on all problems (n=10)" in verdicts_of(cells)[-1]


def test_p_values_are_adjusted_for_all_tests_of_the_table_and_sentences_go_by_them() -> None:
    cells = group(
        cell("none", "0" * 10),
        *(cell("ttsv", "1" * k + "0" * (10 - k), seed=k) for k in (6, 7)),
        cell("other", "1" * 10),
    )
    found = comparison(cells)
    tested = found[found["p_none"].notna()]
    assert list(tested["p_none"]) == pytest.approx([2 / 2**6, 2 / 2**7, 2 / 2**10])
    assert list(tested["p_holm_none"]) == pytest.approx([2 / 2**6, 2 * 2 / 2**7, 3 * 2 / 2**10])
    more = replace(cells, cells=[*cells.cells, cell("third", "1" * 5 + "0" * 5), cell("fourth", "1" * 5 + "0" * 5)])
    sentence = next(s for s in verdicts_of(more) if "seed 6" in s)
    assert (
        "exact McNemar p=0.0312, Holm-adjusted for the table's 5 tests p=0.0938. The evidence is too thin" in sentence
    )
    assert "Better at the 5 % level, after adjustment for all tests of the table." in verdicts_of(cells)[-1]


def test_sentences_of_rows_with_one_label_differ_by_their_tags() -> None:
    plain, other = cell("ttsv", TRAINED), cell("ttsv", TRAINED)
    plain.facts.update(variant="lr=1", options="aaaabbbb")
    other.facts.update(variant="lr=1", options="ccccdddd")
    sentences = verdicts_of(group(cell("none", NONE), plain, other))
    assert sentences[0].startswith("ttsv (lr=1) [options aaaa] (seed 15) against none")
    assert sentences[1].startswith("ttsv (lr=1) [options cccc] (seed 15) against none")


def test_variants_stand_in_the_order_of_their_numbers() -> None:
    lengths = ("20", "5", "1", "0.5")
    cells = [cell("ttsv", TRAINED) for _ in lengths]
    for of, length in zip(cells, lengths, strict=True):
        of.facts.update(variant=f"length={length}", options=length)
    found = comparison(group(cell("none", NONE), *cells))
    assert list(found["method"][1:]) == [f"ttsv (length={length})" for length in reversed(lengths)]


def test_several_samples_are_clustered_by_problem() -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.binomial(4, chance, size=60) for chance in (0.3, 0.6))
    one_row = {m: "".join("1" * c + "0" * (4 - c) for c in counts) for m, counts in (("none", before), ("ttsv", after))}
    cells = group(*(Cell({"method": m, "seed": 1}, rows_of(digits, 4), frozenset()) for m, digits in one_row.items()))
    ttsv = row(comparison(cells), method="ttsv")
    assert (ttsv["ci_low"], ttsv["ci_high"]) == pytest.approx([100 * end for end in accuracy_interval(after / 4, 4)])
    assert ttsv["p_none"] == pytest.approx(mcnemar(before / 4, after / 4).p)
    assert "sign-flip p=" in verdicts_of(cells)[0]
    single = group(cell("none", "01" * 30, seed=1), cells.cells[1])
    assert "sign-flip p=" in verdicts_of(single)[0]
    assert "from the width of the median interval" in (resolution_of(cells) or "")


def test_a_table_says_once_what_difference_it_could_show() -> None:
    cells = group(cell("none", NONE * 10), cell("ttsv", TRAINED * 10))
    effect = smallest_effect(100, 0.6)
    assert effect is not None
    assert resolution_of(cells) == (
        f"Smallest true difference that so many problems show in 80 % of data sets, at 5 %: {100 * effect:.1f} points "
        "(all: n=100, 60 % of them changed in the median comparison)."
    )
    assert resolution_of(group(cell("none", NONE))) is None
    assert "none at all (all: n=4" in (resolution_of(group(cell("none", "0000"), cell("ttsv", "1100"))) or "")


def test_an_untrained_baseline_is_that_of_the_same_seed() -> None:
    cells = group(
        cell("untrained_prefix", "1111000000", seed=1),
        cell("untrained_prefix", "1000000000", seed=2),
        cell("ttsv", "1111100000", seed=1),
        cell("ttsv", "1111100000", seed=2),
        cell("ttsv", "1111100000", seed=3),
    )
    found = comparison(cells)
    gains = [row(found, method="ttsv", seed=s)["gain_untrained_prefix"] for s in (1, 2, 3)]
    assert gains[:2] == [pytest.approx(10), pytest.approx(40)]
    assert pd.isna(gains[2])


def test_pairing_is_by_problem_and_not_by_place() -> None:
    ordered = cell("ttsv", TRAINED)
    shuffled = replace(ordered, samples=ordered.samples.sort_values("problem_id", ascending=False, ignore_index=True))
    trained = row(comparison(group(cell("none", NONE), shuffled)), method="ttsv")
    assert (trained["wrong_to_right_none"], trained["right_to_wrong_none"]) == (5, 1)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("0" * 10, "1" * 10, "Better at the 5 % level"),
        ("1" * 10, "0" * 10, "Worse at the 5 % level"),
        ("0000001111", "1000001111", r"Too few problems changed (1) for any test to tell: the evidence is too thin"),
        ("0000001111", "1111101110", "The evidence is too thin to call this a difference"),
    ],
)
def test_the_words_say_what_the_test_shows(before: str, after: str, words: str) -> None:
    (sentence,) = verdicts_of(group(cell("none", before), cell("ttsv", after)))
    assert words in sentence
    assert "ttsv (seed 15) against none on all problems (n=10)" in sentence


def test_metrics_are_means_over_problems_and_rates_over_rows() -> None:
    samples = rows_of("1010", samples=2)
    samples["finish_reason"] = ["length"] * 1 + ["stop"] * 3
    samples["flag"] = ["timeout", "error", "ok", "no_answer"]
    found = metrics(samples)
    assert found["problems"] == 2
    assert found["samples_per_problem"] == 2
    assert found["accuracy"] == 0.5
    assert found["truncated"] == 0.25
    assert found["flags"] == {"ok": 1, "no_answer": 1, "unparsed": 0, "timeout": 1, "error": 1}
    uneven = pd.concat([rows_of("11", samples=2), rows_of("0").assign(problem_id="p9")])
    assert metrics(uneven)["accuracy"] == 0.5


def test_a_setting_that_changes_no_response_keeps_its_own_baseline_and_is_named() -> None:
    def made(method: str, verdicts: str, variant: str, generation: str) -> Cell:
        return cell(method, verdicts, **dict.fromkeys(SHARED_FACTS, ""), variant=variant, generation=generation)

    (found,) = grouped(
        [
            made("none", NONE, "", "n"),
            made("untrained_prefix", UNTRAINED, "step=0", "u0"),
            made("untrained_prefix", NONE, "step=1", "u1"),
            made("untrained_prefix", NONE, "step=2", "u1"),
            made("ttsv", TRAINED, "step=2", "t2"),
        ]
    )
    frame = comparison(found)
    assert len(frame) == 4
    trained = row(frame, method="ttsv (step=2)")
    assert trained["baseline_untrained_prefix"] == "untrained_prefix (step=2)"
    assert trained["gain_untrained_prefix"] == pytest.approx(40)
    assert found.remarks() == [
        "untrained_prefix (step=1) stands also for untrained_prefix (step=2): the same responses."
    ]
