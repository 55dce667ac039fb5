"""The control suite's page: its arms are the right runs, and every number and sentence follows from the graded samples."""

import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_suites import CAPS, Study
from tiny_tables import history

from ttsv.controls.arms import DRAWS, HELD_OUT, RELEASED, TRAINED, UNTRAINED, WITHIN, Suite, suites
from ttsv.controls.comparisons import outcomes, voting_frame
from ttsv.controls.decomposition import graders_frame
from ttsv.controls.dynamics import updates_frame
from ttsv.controls.sections import unboxed
from ttsv.report import write_report
from ttsv.stats import accuracy_interval, difference_interval, difference_p, holm
from ttsv.study import read_cells
from ttsv.waterfall import waterfall

SEEDS = (15, 16, 17)
Rows = dict[str, list[pd.DataFrame]]


def only(study: Study) -> Suite:
    cells, left_out = read_cells(study.folder, study.results)
    assert not left_out
    (suite,) = suites(cells)
    return suite


def means(rows: list[pd.DataFrame], ids: list[str]) -> np.ndarray[Any, Any]:
    return np.array([[float(of.loc[of["problem_id"] == i, "correct"].mean()) for i in ids] for of in rows])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Rows]:
    """A study with every arm, its report written, and the rows of each arm by hand."""
    study = Study(tmp_path_factory.mktemp("study"))
    rows: Rows = {RELEASED: [study.run("none", 0.2)], "prompt chat": [study.run("none", 0.3, prompt="chat")]}
    rows[UNTRAINED] = [study.run("untrained_prefix", 0.5, s, misformed=0.2) for s in SEEDS]
    rows[TRAINED] = [study.run("ttsv", 0.8, s, course=history([1.0] * 3)) for s in SEEDS]
    rows[DRAWS] = [
        study.run("random_prefix", 0.4, variant=f"method.draw={d}", config={"method": {"draw": d}}) for d in range(1, 6)
    ]
    rows["entropy_maximization"] = [study.run("entropy_maximization", 0.3)]
    rows["ttsv (adapted on letters)"] = [study.run("ttsv", 0.4, adapt_task="letters", variant="adapted on letters")]
    folds = {
        (half, s): study.run("ttsv", {i: 0.9 if i in inside else 0.6 for i in study.ids}, s, adapt_on=half)
        for half, inside in study.folds.items()
        for s in SEEDS
    }
    first = study.folds["first_half"]
    for name, own in ((WITHIN, True), (HELD_OUT, False)):
        for seed in SEEDS:
            of_seed = [(half, of) for (half, s), of in folds.items() if s == seed]
            parts = [of[of["problem_id"].isin(first) == ((half == "first_half") == own)] for half, of in of_seed]
            rows.setdefault(name, []).append(pd.concat(parts))
    for update, chance in ((0, 0.5), (8, 0.9), (16, 0.7)):
        study.run("ttsv", chance, at_update=update, variant=f"at_update={update}", details={"reported_update": 16})
    sampled = {"recipe": {"evaluation": {"decoding": {"sampling": {"temperature": 0.7}}}}}
    study.run(
        "none", 0.4, samples=8, evaluation="sampled", conditions="samples=8", aggregate="majority", config=sampled
    )
    write_report(study.results, "study")
    return study, rows


def frame(study: Study, name: str) -> pd.DataFrame:
    return pd.read_csv(study.folder / "controls" / f"{name}.csv")


def test_each_arm_has_the_accuracy_interval_and_rates_of_its_rows(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    shown = frame(study, "arms").set_index("arm")
    assert set(shown.index) == set(rows)
    page = (study.folder / "controls.md").read_text()
    for arm, runs in rows.items():
        of_problem = means(runs, study.ids).mean(axis=0)
        low, high = accuracy_interval(of_problem, len(runs))
        expected = [100 * of_problem.mean(), 100 * low, 100 * high]
        assert list(shown.loc[arm, ["accuracy", "low", "high"]]) == pytest.approx(expected), arm
        pooled = pd.concat(runs)
        assert shown.loc[arm, "boxed"] == pytest.approx(100 * pooled["boxed"].mean())
        assert shown.loc[arm, "truncated"] == pytest.approx(100 * (pooled["finish_reason"] == "length").mean())
        assert shown.loc[arm, "tokens"] == pytest.approx(pooled["tokens"].mean())
        line = next(line for line in page.splitlines() if line.startswith(f"| {arm} "))
        assert f" {expected[0]:.1f} " in line
        assert f"{expected[1]:.1f} to {expected[2]:.1f}" in line


def test_the_steps_are_those_of_the_rows_and_the_page_holds_the_verdict_whole(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    matrices = {arm: means(runs, study.ids) for arm, runs in rows.items()}
    differences = {
        "total": matrices[TRAINED] - matrices[RELEASED],
        "before": matrices[UNTRAINED] - matrices[RELEASED],
        "draws": matrices[DRAWS] - matrices[RELEASED],
        "updates": matrices[TRAINED] - matrices[UNTRAINED],
        "held_out": matrices[HELD_OUT] - matrices[UNTRAINED],
        "own_problems": matrices[TRAINED] - matrices[HELD_OUT],
    }
    shown = frame(study, "steps").set_index("name")
    assert set(shown.index) == {*differences, "prompt", "beyond"}
    for name, difference in differences.items():
        low, high = difference_interval(difference, 1, 1 - 0.05 / 8)
        expected = [100 * difference.mean(), 100 * float(low), 100 * float(high), difference_p(difference)]
        assert list(shown.loc[name, ["points", "low", "high", "p"]]) == pytest.approx(expected), name
    page = (study.folder / "controls.md").read_text()
    verdict = waterfall(outcomes(only(study))).verdict
    assert len(verdict) == 9
    assert all(f"- {sentence}\n" in page for sentence in verdict)


def test_controls_are_compared_with_the_run_of_their_seed_and_adjusted_together(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    shown = frame(study, "comparisons")
    p_values = []
    for row in shown.to_dict("records"):
        difference = means(rows[row["arm"]], study.ids) - means(rows[row["reference"]][:1], study.ids)
        assert row["points"] == pytest.approx(100 * difference.mean())
        assert row["p"] == pytest.approx(difference_p(difference))
        p_values.append(row["p"])
    assert list(shown["p_holm"]) == pytest.approx(holm(p_values))
    assert len(shown) == 6


def test_folds_stand_side_by_side_over_all_by_half_and_by_level(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    shown = frame(study, "folds").set_index("problems")
    groups = {"all": study.ids, "first half": [i for i in study.ids if i in study.folds["first_half"]]}
    groups |= {f"level {n}": [i for i, level in zip(study.ids, study.levels, strict=True) if level == n] for n in "123"}
    for name, ids in groups.items():
        for arm in (RELEASED, UNTRAINED, HELD_OUT, WITHIN, TRAINED):
            assert shown.loc[name, arm] == pytest.approx(100 * means(rows[arm], ids).mean()), (name, arm)
        assert shown.loc[name, "points"] == pytest.approx(shown.loc[name, WITHIN] - shown.loc[name, HELD_OUT])
    assert set(shown.index) == {*groups, "second half"}


def test_right_and_wrong_are_counted_by_what_the_responses_show(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    shown = frame(study, "traits").set_index(["arm", "trait"])
    for arm, runs in rows.items():
        pooled = pd.concat(runs)
        holds = {
            "boxed": pooled["boxed"],
            "stopped": pooled["finish_reason"] == "stop",
            "truncated": pooled["finish_reason"] == "length",
            "code": pooled["text"] == "```python",
            "answer extracted": pooled["answer"].notna(),
            "repeats itself": pooled["repetition"] >= 0.5,
        }
        for trait, has in holds.items():
            row = shown.loc[(arm, trait)]
            right = pooled["correct"]
            assert row["share"] == pytest.approx(100 * has.mean())
            counts = [(has & right).sum(), (has & ~right).sum(), (~has & right).sum(), (~has & ~right).sum()]
            assert [row[n] for n in ("right_with", "wrong_with", "right_without", "wrong_without")] == counts
            assert row["accuracy_with"] == pytest.approx(100 * right[has].mean())


def test_failures_of_format_are_told_from_failures_of_mathematics(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    reread = {id(of): again for of, again in study.runs.values()}
    shown = frame(study, "failures").set_index("arm")
    gains = frame(study, "format").set_index(["after", "before", "reading"])
    lenient: dict[str, np.ndarray[Any, Any]] = {}
    for arm in (RELEASED, UNTRAINED, TRAINED):
        rescued, shares = 0, []
        for of in rows[arm]:
            again = reread[id(of)]
            assert again is not None
            good = again[(again["reading"] == "last expression") & again["correct"]]["problem_id"]
            rescued += len(good)
            shares.append((of["correct"] | of["problem_id"].isin(good)).to_numpy(dtype=float))
        pooled = pd.concat(rows[arm])
        assert shown.loc[arm, "format"] == pytest.approx(100 * rescued / len(pooled))
        wrong = ~pooled["correct"]
        assert shown.loc[arm, "no answer"] == pytest.approx(
            100 * ((wrong & pooled["answer"].isna()).sum() - rescued) / len(pooled)
        )
        assert shown.loc[arm, "wrong answer"] == pytest.approx(100 * (wrong & pooled["answer"].notna()).mean())
        assert shown.loc[arm, "truncated_wrong"] == pytest.approx(
            100 * (wrong & (pooled["finish_reason"] == "length")).mean()
        )
        lenient[arm] = np.array(shares)
    strict = {arm: means(rows[arm], study.ids) for arm in lenient}
    for after, before in ((UNTRAINED, RELEASED), (TRAINED, UNTRAINED), (TRAINED, RELEASED)):
        as_graded, leniently = strict[after] - strict[before], lenient[after] - lenient[before]
        for reading, difference in (
            ("as graded", as_graded),
            ("lenient", leniently),
            ("format", as_graded - leniently),
        ):
            low, high = difference_interval(difference)
            expected = [100 * difference.mean(), 100 * float(low), 100 * float(high)]
            assert list(gains.loc[(after, before, reading), ["points", "low", "high"]]) == pytest.approx(expected)


def test_flows_are_the_responses_whose_verdict_changed(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    flows = frame(study, "flows")
    flows = flows[(flows["after"] == TRAINED) & (flows["before"] == UNTRAINED)]
    before, after = (pd.concat(rows[arm], ignore_index=True) for arm in (UNTRAINED, TRAINED))
    gained, lost = after["correct"] & ~before["correct"], before["correct"] & ~after["correct"]
    assert flows[flows["direction"] == "gained"]["count"].sum() == gained.sum()
    assert flows[flows["direction"] == "lost"]["count"].sum() == lost.sum()
    compared = flows[(flows["direction"] == "gained") & (flows["failure"] == "wrong answer") & flows["truncated"]][
        "count"
    ].item()
    assert compared == (gained & before["answer"].notna() & (before["finish_reason"] == "length")).sum()


def test_accuracy_by_cap_is_that_of_the_cut_responses_and_ends_at_the_accuracy(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    caps = frame(study, "caps").set_index(["arm", "cap"])
    for arm in (RELEASED, TRAINED, DRAWS):
        pooled = pd.concat(rows[arm])
        for cap in CAPS:
            assert caps.loc[(arm, cap), "accuracy"] == pytest.approx(
                100 * (pooled["correct"] & (pooled["tokens"] <= cap)).mean()
            )
        assert caps.loc[(arm, CAPS[-1]), "accuracy"] == pytest.approx(100 * pooled["correct"].mean())


def test_lengths_and_repetition_are_those_of_the_responses(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    shown = frame(study, "lengths").set_index("arm")
    assert set(shown.index) == set(rows)
    for arm, runs in rows.items():
        tokens = [int(n) for of in runs for n in of["tokens"]]
        cut = [statistics.quantiles(tokens, n=4, method="inclusive")[place] for place in range(3)]
        assert list(shown.loc[arm, ["quarter", "median", "three_quarters"]]) == pytest.approx(cut), arm
        pooled = pd.concat(runs).to_dict("records")
        for verdict, word in ((True, "right"), (False, "wrong")):
            of_verdict = [row["tokens"] for row in pooled if row["correct"] is verdict]
            assert shown.loc[arm, f"mean_{word}"] == pytest.approx(statistics.mean(of_verdict))
        repeats = [row["repetition"] >= 0.5 for row in pooled]
        assert shown.loc[arm, "repeats"] == pytest.approx(100 * sum(repeats) / len(repeats))


def test_each_level_has_the_accuracy_of_its_problems_under_each_arm(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    shown = frame(study, "strata")
    assert set(shown["by"]) == {"level"}
    assert len(shown) == 3 * len(rows)
    page = (study.folder / "controls.md").read_text().partition("## By level and subject")[2]
    for row in shown.to_dict("records"):
        ids = [i for i, level in zip(study.ids, study.levels, strict=True) if level == str(row["value"])]
        of_problem = means(rows[row["arm"]], ids).mean(axis=0)
        low, high = accuracy_interval(of_problem, len(rows[row["arm"]]))
        assert row["n"] == len(ids)
        assert [row[name] for name in ("accuracy", "low", "high")] == pytest.approx(
            [100 * of_problem.mean(), 100 * float(low), 100 * float(high)]
        )
        if row["arm"] in (RELEASED, TRAINED):
            assert f"{row['accuracy']:.1f} ({row['low']:.1f} to {row['high']:.1f})" in page


def test_votes_are_counted_up_to_the_tokens_that_the_vector_cost(whole: tuple[Study, Rows]) -> None:
    study, rows = whole
    suite = only(study)
    (sampled,) = [of for of, _ in study.runs.values() if of["sample"].max() > 0]
    # 3 updates of 100 response tokens, twice, and 60 of prompts, over 60 problems, and what the answers took.
    budget = np.mean([3 * (2 * 100 + 60) / 60 + of["tokens"].mean() for of in rows[TRAINED]])
    tokens = [sampled[sampled["sample"] < k]["tokens"].sum() / 60 for k in range(1, 9)]
    votes = voting_frame(suite)
    assert list(votes["tokens"]) == pytest.approx(tokens)
    assert list(votes["of_trained"]) == pytest.approx(np.array(tokens) / budget)
    matched = votes.loc[votes["matched"], "samples"].item()
    assert tokens[matched - 1] <= budget < tokens[matched]
    first = sampled[sampled["sample"] < matched]
    assert votes.loc[votes["matched"], "mean"].item() == pytest.approx(100 * first["correct"].mean())
    single = votes[votes["samples"] == 1].iloc[0]
    assert (
        single["mean"] == single["majority"] == pytest.approx(100 * sampled[sampled["sample"] == 0]["correct"].mean())
    )


def test_the_rules_update_stands_beside_the_last_and_the_best_in_hindsight(whole: tuple[Study, Rows]) -> None:
    study, _ = whole
    found = updates_frame(only(study)).set_index("update")
    assert list(found.index) == [0, 8, 16]
    assert found.loc[16, "chosen"] == "by the rule, last"
    assert found.loc[8, "chosen"] == "best in hindsight"
    assert found["accuracy"].idxmax() == 8
    assert found.loc[0, "chosen"] == ""
    page = (study.folder / "controls.md").read_text()
    assert "overstates" in page.partition("## While optimising")[2]


def test_the_figures_that_the_page_shows_are_there(whole: tuple[Study, Rows]) -> None:
    study, _ = whole
    shown = re.findall(r"!\[\w+\]\((.*?)\)", (study.folder / "controls.md").read_text())
    assert len(shown) == 3
    assert all((study.folder / name).stat().st_size > 10_000 for name in shown)
    assert "(controls.md)" in (study.folder / "summary.md").read_text()


@pytest.mark.parametrize(
    ("chances", "held_out", "shown", "headline"),
    [
        ((0.2, 0.7, 0.7), 0.7, {"total": 1, "before": 1}, "come from: the prefix before its first update."),
        ((0.2, 0.2, 0.7), 0.7, {"total": 1, "updates": 1, "held_out": 1}, "come from: updates that carry over"),
        ((0.2, 0.2, 0.7), 0.2, {"total": 1, "updates": 1, "own_problems": 1}, "come from: updates on all problems"),
        ((0.4, 0.4, 0.4), 0.4, {}, "cannot tell whether there is a gain"),
        ((0.7, 0.2, 0.2), 0.2, {"total": -1, "before": -1}, "A loss of"),
    ],
    ids=["all prefix", "all optimisation", "only on the optimised items", "nothing", "a loss"],
)  # fmt: skip
def test_the_page_of_a_study_of_known_truth_says_it_and_nothing_else(
    tmp_path: Path, chances: tuple[float, float, float], held_out: float, shown: dict[str, int], headline: str
) -> None:
    study = Study(tmp_path, problems=200, seed=5)
    study.three_arms(*(c / 0.9 for c in chances), misformed=0.1)
    study.halves(chances[2], held_out)
    write_report(study.results, "study")
    steps = frame(study, "steps").set_index("name")
    assert {name: d for name, d in steps["direction"].items() if d} == shown
    page = (study.folder / "controls.md").read_text()
    sentences = [line for line in page.splitlines() if line.startswith("- ")]
    assert headline in sentences[0]
    for sentence, (_, step) in zip(sentences[1:], steps.iterrows(), strict=True):
        assert ("cannot tell" in sentence) == (step["direction"] == 0)
        printed = {abs(float(number)) for number in re.findall(r"[-+]?\d+\.\d", sentence)}
        assert {round(abs(step["low"]), 1), round(abs(step["high"]), 1)} <= printed


def test_a_gain_that_is_all_format_is_seen_to_be_one(tmp_path: Path) -> None:
    study = Study(tmp_path, problems=200)
    study.run("none", 0.6, misformed=0.6)
    study.run("untrained_prefix", 0.6, misformed=0.6)
    study.run("ttsv", 0.6, misformed=0.0)
    write_report(study.results, "study")
    gains = frame(study, "format").set_index(["after", "before", "reading"]).sort_index().loc[(TRAINED, RELEASED)]
    assert gains.loc["as graded", "low"] > 10
    assert gains.loc["lenient", "low"] < 0 < gains.loc["lenient", "high"]
    assert gains.loc["format", "low"] > 10


def test_two_seeds_are_not_taken_for_a_spread(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.three_arms(0.2, 0.4, 0.6, seeds=(15, 16))
    suite = only(study)
    assert [cell.seed for cell in suite.arms[TRAINED]] == [15]
    assert any("fewer than 3" in note for note in suite.notes)
    assert DRAWS not in suite.arms


def test_a_held_out_arm_needs_both_halves_of_every_seed(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.three_arms(0.2, 0.4, 0.6)
    study.run("ttsv", 0.6, adapt_on="first_half")
    suite = only(study)
    assert HELD_OUT not in suite.arms
    assert any("both halves" in note for note in suite.notes)


def test_runs_of_another_evaluation_recipe_or_model_are_no_arms(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.three_arms(0.2, 0.4, 0.6)
    for facts in ({"evaluation": "sampled"}, {"model": "other"}, {"recipe": "paper"}):
        study.run("random_prefix", 0.9, **facts)
    study.run("none", 0.9, prompt="chat", evaluation="sampled")
    assert set(only(study).arms) == {RELEASED, UNTRAINED, TRAINED}


def test_a_released_vector_is_the_trained_arm_and_other_untrained_seeds_are_draws(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.run("none", 0.2)
    study.run("released_vector", 0.6)
    for seed in range(15, 21):
        study.run("untrained_prefix", 0.5, seed)
    suite = only(study)
    assert [cell.method for cell in suite.arms[TRAINED]] == ["released_vector"]
    assert [cell.seed for cell in suite.arms[UNTRAINED]] == [15]
    assert [cell.seed for cell in suite.arms[DRAWS]] == [16, 17, 18, 19, 20]


def test_a_prompt_that_renders_to_the_released_text_is_named_and_not_run_twice(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.three_arms(0.2, 0.4, 0.6)
    (file,) = study.folder.glob("none-15-*")
    file.with_name("none-chat.json").write_text(file.read_text().replace('"prompt": "release"', '"prompt": "chat"'))
    suite = only(study)
    assert not suite.prompts
    assert any("`chat` renders to the text of `release`" in note for note in suite.notes)


def test_a_study_without_the_arms_has_no_page(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.run("none", 0.2)
    study.run("ttsv", 0.5)
    write_report(study.results, "study")
    assert not (study.folder / "controls.md").exists()


def test_a_prompt_that_is_only_better_without_a_box_is_named() -> None:
    table = pd.DataFrame(
        {
            "arm": ["no prefix", "prompt question", "prompt few_shot", "trained"],
            "right": [25.0, 0.0, 17.2, 0.0],
            "lenient": [35.9, 76.6, 17.2, 80.0],
        }
    )
    (note,) = unboxed(table)
    assert "prompt question has 0.0 % right as graded and 76.6 % in the lenient reading" in note
    assert note.endswith("no prefix 25.0 % and 35.9 %")
    assert unboxed(table[1:]) == unboxed(pd.DataFrame()) == []


def test_both_graders_say_what_an_arm_gains(whole: tuple[Study, Rows]) -> None:
    study, _ = whole
    suite = only(study)
    alone = suite.released.samples
    other = alone.assign(correct=False, graders_disagree=alone["problem_id"] == alone["problem_id"].iloc[0])
    trained = [
        replace(cell, samples=cell.samples.assign(correct=True, graders_disagree=True)) for cell in suite.arms[TRAINED]
    ]
    arms = {RELEASED: [replace(suite.released, samples=other)], TRAINED: trained}
    found = graders_frame(replace(suite, arms=arms, others={})).set_index("arm")
    share = 100 / alone["problem_id"].nunique()
    assert list(found.loc[RELEASED, ["accuracy", "second", "gain", "second_gain"]]) == pytest.approx([0, share, 0, 0])
    assert list(found.loc[TRAINED, ["accuracy", "second", "gain", "second_gain"]]) == pytest.approx(
        [100, 0, 100, -share]
    )
