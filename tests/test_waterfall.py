"""The verdict on outcomes whose truth is known: what the rules name, what they leave open, and that no number is their own."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ttsv.records import UserError
from ttsv.stats import difference_interval, difference_p, holm
from ttsv.waterfall import Outcomes, Step, best_prompt, waterfall

N = 400


def outcomes(untrained: float, held_out: float, trained: float, prompt: float = 0.0, seeds: int = 1) -> Outcomes:
    """Arms above a baseline of 40 %, by so much; each arm's chances are shared, and its answers its own."""
    rng = np.random.default_rng(7)
    chances = rng.beta(0.4, 0.6, size=N)

    def arm(gain: float, *runs: int) -> Any:
        return (rng.random((*runs, N)) < chances + gain / 0.6 * (1 - chances)).astype(float)

    return Outcomes(
        released=arm(0),
        untrained=arm(untrained, seeds),
        trained=arm(trained, seeds),
        halves=np.arange(N) % 2 == 0,
        prompts={"chat": arm(0), "boxed": arm(prompt)},
        draws=arm(untrained, 5),
        held_out=arm(held_out, seeds),
    )


def directions(found: Outcomes) -> dict[str, int]:
    return {name: step.direction for name, step in waterfall(found).steps.items()}


@pytest.mark.parametrize(
    ("truth", "shown", "headline"),
    [
        (outcomes(0.25, 0.25, 0.25), {"total", "beyond", "before", "draws"}, "the prefix before its first update."),
        (outcomes(0, 0.25, 0.25), {"total", "beyond", "updates", "held_out"}, "updates that carry over to problems they never saw."),
        (outcomes(0, 0, 0.25), {"total", "beyond", "updates", "own_problems"}, "updates on all problems, those that are scored among"),
        (outcomes(0, 0.25, 0.25, 0.25), {"total", "prompt", "updates", "held_out"}, "updates that carry over"),
        (outcomes(0, 0, 0), set(), "This data set cannot tell whether there is a gain."),
    ],
    ids=["all prefix", "all optimisation", "only on the optimised items", "all format", "nothing"],
)  # fmt: skip
def test_the_verdict_names_the_true_source_and_nothing_else(truth: Outcomes, shown: set[str], headline: str) -> None:
    assert {name for name, direction in directions(truth).items() if direction} == shown
    assert all(direction >= 0 for direction in directions(truth).values())
    assert headline in waterfall(truth).verdict[0]


def test_a_loss_is_called_a_loss_and_its_repair_is_seen() -> None:
    harm = waterfall(outcomes(-0.25, 0, 0))
    assert harm.steps["before"].direction == -1
    assert "The untrained prefix alone loses" in " ".join(harm.verdict)
    assert "On problems that they never saw, the updates add" in " ".join(harm.verdict)
    worse = waterfall(outcomes(-0.25, -0.25, -0.25))
    assert worse.verdict[0].startswith("A loss of ")
    assert worse.verdict[1].startswith("This vector loses ")


def test_the_headline_and_the_sentences_do_not_contradict_each_other() -> None:
    data = outcomes(0, 0.25, 0.25)
    without = waterfall(replace(data, held_out=None))
    assert without.steps["updates"].direction == 1
    assert without.verdict[0].endswith("a part is shown to come from: the updates.")
    small = waterfall(outcomes(0, 0.08, 0.16))
    assert [small.steps[name].direction for name in ("updates", "held_out", "own_problems")] == [1, 0, 0]
    assert small.verdict[0].endswith("a part is shown to come from: the updates.")


def test_what_carries_over_is_no_source_of_a_gain_that_the_updates_did_not_add_to() -> None:
    found = waterfall(outcomes(0.25, 0.5, 0.25))
    assert [found.steps[name].direction for name in ("updates", "held_out", "own_problems")] == [0, 1, -1]
    assert found.verdict[0].endswith("a part is shown to come from: the prefix before its first update.")


def test_no_part_of_a_gain_is_said_to_exceed_it() -> None:
    found = waterfall(outcomes(0.5, 0.25, 0.25))
    assert found.steps["before"].high > found.steps["total"].points
    assert any(sentence.startswith("The untrained prefix alone gains ") for sentence in found.verdict)
    assert not any(re.match(r"Of the [0-9.]+ points", sentence) for sentence in found.verdict)


def test_a_range_without_zero_that_the_exact_test_does_not_bear_out_is_explained() -> None:
    gained, lost = np.repeat([1.0, 0.0], [17, 47]), np.repeat([0.0, 1.0, 0.0], [17, 5, 42])
    found = waterfall(Outcomes(lost, lost[None], gained[None], np.arange(64) % 2 == 0))
    total = found.steps["total"]
    assert total.direction == 0 < total.low
    assert found.verdict[1].endswith(f"points, but the exact test leaves 0 possible (Holm p {total.p_holm:.3g}).")


def test_a_prompt_that_nothing_beat_is_called_the_vectors_own() -> None:
    data = outcomes(0, 0, 0)
    worse = waterfall(replace(data, prompts={"chat": np.zeros(N)})).verdict
    assert "(no other prompt did better than the vector's own on either half)" in worse[2]
    half = np.where(data.halves, 1.0, 0.0)
    assert (
        "(chosen on the other half: the vector's own and chat)"
        in waterfall(replace(data, prompts={"chat": half})).verdict[2]
    )


def test_the_steps_add_up_to_the_total() -> None:
    found = waterfall(outcomes(0.1, 0.15, 0.25, 0.1, seeds=3))
    points = {name: step.points for name, step in found.steps.items()}
    assert points["before"] + points["held_out"] + points["own_problems"] == pytest.approx(points["total"])
    assert points["before"] + points["updates"] == pytest.approx(points["total"])
    assert points["prompt"] + points["beyond"] == pytest.approx(points["total"])
    assert found.arms["trained"] - found.arms["released"] == pytest.approx(points["total"])


def test_every_number_of_a_sentence_is_that_of_its_step() -> None:
    data = outcomes(0.1, 0.15, 0.25, 0.1)
    found = waterfall(data)
    differences = {"total": data.trained - data.released, "held_out": data.held_out - data.untrained}  # type: ignore[operator]
    confidence = 1 - 0.05 / len(found.steps)
    for name, difference in differences.items():
        step = found.steps[name]
        assert (step.low, step.high) == pytest.approx(
            [100 * float(end) for end in difference_interval(difference, 1, confidence)]
        )
        assert step.p == difference_p(difference)
    assert [s.p_holm for s in found.steps.values()] == pytest.approx(holm([s.p for s in found.steps.values()]))
    for step, sentence in zip(found.steps.values(), found.verdict[1:], strict=True):
        numbers = [abs(float(number)) for number in re.findall(r"[-+]?\d+\.\d", sentence)]
        assert {round(abs(step.low), 1), round(abs(step.high), 1)} <= set(numbers), sentence
        assert ("cannot tell" in sentence) == (step.direction == 0)


def test_a_direction_needs_the_adjusted_test_and_the_range() -> None:
    shown = Step("total", 5, 1, 9, 0.001, 0.008)
    assert shown.direction == 1
    assert replace(shown, low=-9, high=-1).direction == -1
    assert replace(shown, p_holm=0.05).direction == 0
    assert replace(shown, low=-0.1).direction == 0


def test_the_best_prompt_gains_nothing_from_being_chosen() -> None:
    halves = np.arange(10) >= 5
    first, second = (~halves).astype(float), halves.astype(float)
    data = Outcomes(np.zeros(10), np.zeros((1, 10)), np.ones((1, 10)), halves, {"first": first, "second": second})
    scores, chosen = best_prompt(data)
    assert chosen == ("first", "second")
    assert scores.sum() == 0
    even = replace(data, prompts={"same": np.zeros(10)})
    assert best_prompt(even)[1] == ("released", "released")


def test_arms_that_were_not_run_leave_their_steps_out_and_make_the_others_sharper() -> None:
    data = outcomes(0.1, 0.15, 0.25)
    few = waterfall(replace(data, prompts={}, draws=data.draws[:2], held_out=None))  # type: ignore[index]
    assert list(few.steps) == ["total", "before", "updates"]
    whole = waterfall(data).steps["total"]
    assert few.steps["total"].high - few.steps["total"].low < whole.high - whole.low


def test_one_seed_speaks_of_its_vector_and_three_of_the_method() -> None:
    assert "This vector gains" in waterfall(outcomes(0, 0.25, 0.25)).verdict[1]
    assert "TTSV, over 3 seeds, gains" in waterfall(outcomes(0, 0.25, 0.25, seeds=3)).verdict[1]


def test_seeds_that_disagree_widen_the_ranges() -> None:
    agreeing = outcomes(0, 0.2, 0.2, seeds=4)
    rng = np.random.default_rng(1)
    chances = np.array([[0.2], [0.5], [0.8], [0.9]])
    differing = replace(agreeing, trained=(rng.random((4, N)) < chances).astype(float))
    widths = [step.high - step.low for step in (waterfall(data).steps["total"] for data in (agreeing, differing))]
    assert widths[1] > 3 * widths[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"trained": np.zeros((2, N)), "untrained": np.zeros((2, N))},
            "trained has 2 seeds; expected one, or at least 3",
        ),
        ({"held_out": np.zeros((1, N - 1))}, r"arm held_out has the shape \(1, 399\); expected \(1, 400\)"),
        ({"prompts": {"chat": np.zeros(3)}}, r"arm prompts\[chat\] has the shape \(3,\)"),
        ({"halves": np.zeros(N, dtype=bool)}, "halves puts all problems into one half"),
        ({"released": np.zeros((1, N))}, "arm released has the shape"),
        ({"released": np.full(N, np.nan)}, "arm released holds scores that are missing or outside 0 to 1"),
        ({"trained": np.full((1, N), 100.0)}, "arm trained holds scores"),
    ],
)
def test_arms_that_do_not_fit_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        replace(outcomes(0, 0, 0), **change)
