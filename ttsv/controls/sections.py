"""The sections of a suite's page: each takes the suite, its verdict and its frames, and gives what they allow, or nothing."""

from collections.abc import Callable

import pandas as pd

from ttsv.controls.arms import HELD_OUT, RELEASED, TRAINED, UNTRAINED, WITHIN, Suite
from ttsv.controls.columns import Frames, intervals, numbers, texts
from ttsv.controls.dynamics import HINDSIGHT, LAST, RULE
from ttsv.controls.response_sections import (
    caps_section,
    decomposition_sections,
    graders_section,
    lengths_section,
    strata_section,
)
from ttsv.rendering import Section, interval, number
from ttsv.waterfall import Waterfall

STEP_WORDS = {
    "total": "trained - no prefix",
    "prompt": "best prompt - no prefix",
    "beyond": "trained - best prompt",
    "before": "untrained - no prefix",
    "draws": "random prefixes - no prefix",
    "updates": "trained - untrained",
    "held_out": "held out - untrained",
    "own_problems": "trained - held out",
}


def verdict_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """The verdict in words, and the steps that it is generated from."""
    shown = {1: "positive", -1: "negative", 0: "cannot tell"}
    steps = frames["steps"]
    table = texts(
        {
            "step": list(steps["name"]),
            "difference": [STEP_WORDS[name] for name in steps["name"]],
            "points": numbers(steps["points"], "+.1f"),
            "simultaneous 95 % range": intervals(steps, "+.1f"),
            "p": numbers(steps["p"], ".3g"),
            "Holm p": numbers(steps["p_holm"], ".3g"),
            "shown": [shown[int(direction)] for direction in steps["direction"]],
        }
    )
    notes = [f"Note: {note}." for note in (*suite.notes, *unboxed(frames["failures"]))]
    figure = (
        "In the figure a step starts at the arm that it is the difference to; hatched: a loss; diamonds: single prefixes; lines: "
        "the ranges above for steps, 95 % intervals for arms."
    )
    return [Section("Verdict", table, ["\n".join(f"- {sentence}" for sentence in verdict.verdict), *notes, figure])]


def unboxed(failures: pd.DataFrame) -> list[str]:
    """Say which prompts are no better than no prefix as graded, but better in the lenient reading, by the table of failures of format."""
    rows = {str(row["arm"]): row for row in failures.to_dict("records")}
    alone = rows.get(RELEASED)
    if alone is None:
        return []
    return [
        f"prompts are chosen as graded: {name} has {row['right']:.1f} % right as graded and {row['lenient']:.1f} % in the lenient "
        f"reading (*Failures of format*), {RELEASED} {alone['right']:.1f} % and {alone['lenient']:.1f} %"
        for name, row in rows.items()
        if name.startswith("prompt ") and row["right"] <= alone["right"] and row["lenient"] > alone["lenient"]
    ]


def arms_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """Every arm with its accuracy and rates."""
    arms = frames["arms"]
    table = texts(
        {
            "arm": list(arms["arm"]),
            "seeds": numbers(arms["seeds"], ".0f"),
            "n": numbers(arms["n"], ".0f"),
            "accuracy %": numbers(arms["accuracy"]),
            "95 % interval": intervals(arms),
            "boxed %": numbers(arms["boxed"], ".0f"),
            "truncated %": numbers(arms["truncated"], ".0f"),
            "repeated 4-grams %": numbers(arms["repetition"], ".0f"),
            "mean tokens": numbers(arms["tokens"], ".0f"),
            "entropy, nats": numbers(arms["entropy"], ".2f"),
            "tokens spent": numbers(arms["spent"], ".0f"),
        }
    )
    best = verdict.arms.get("best prompt")
    words = [] if best is None else [f"Best prompt, chosen on one half and scored on the other: {best:.1f} %."]
    words.append(
        "Intervals are about other problems, for these very seeds. *tokens spent*: per problem, rollouts + loss + evaluated "
        "responses; a held-out problem costs both vectors."
    )
    return [Section("Arms", table, words)]


def draws_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """Single random prefixes, the untrained ones among them."""
    draws = frames["draws"]
    if len(draws) < 2:
        return []
    values = draws["difference"]
    words = (
        f"{len(draws)} random prefixes: {values.min():+.1f} to {values.max():+.1f} points against no prefix, "
        f"median {values.median():+.1f}"
    )
    words += f", standard deviation {values.std():.1f}. Each row is one draw and no evidence about the others."
    columns = {
        "arm": list(draws["arm"]),
        "prefix": list(draws["prefix"]),
        "accuracy %": numbers(draws["accuracy"]),
        "95 % interval": intervals(draws),
    }
    return [Section("Random prefixes", texts({**columns, "points over no prefix": numbers(values, "+.1f")}), [words])]


def controls_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """Other objectives, other vectors and other methods against the three references."""
    found = frames["comparisons"]
    if found.empty:
        return []
    rows: list[dict[str, str]] = []
    for name in dict.fromkeys(found["arm"]):
        of_arm = found[found["arm"] == name].set_index("reference")
        row = {"method": str(name), "seeds": str(of_arm["seeds"].iloc[0])}
        for reference in (RELEASED, UNTRAINED, TRAINED):
            one = of_arm.loc[reference]
            row[f"- {reference}"] = (
                f"{one['points']:+.1f} ({interval(one['low'], one['high'], '+.1f')})"
                if pd.notna(one["low"])
                else f"{one['points']:+.1f}"
            )
            row[f"Holm p ({reference})"] = number(one.get("p_holm"), ".3g")
        rows.append(row)
    words = "Difference in points to each reference with its 95 % interval; p-values are adjusted over this table."
    return [Section("Objective controls and other methods", pd.DataFrame(rows), [words])]


def voting_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """Low temperature and the vote, at the vector's token budget."""
    votes = frames["voting"]
    if votes.empty:
        return []
    most = votes.groupby(["temperature", "seed"])["samples"].transform("max")
    kept = votes[votes["matched"] | (votes["samples"] == 1) | (votes["samples"] == most)]
    table = texts(
        {
            "temperature": numbers(kept["temperature"], "g"),
            "seed": numbers(kept["seed"], ".0f"),
            "samples": numbers(kept["samples"], ".0f"),
            "mean %": numbers(kept["mean"]),
            "95 % (mean)": intervals(kept, names=("mean_low", "mean_high")),
            "majority %": numbers(kept["majority"]),
            "95 % (majority)": intervals(kept, names=("majority_low", "majority_high")),
            "tokens spent": numbers(kept["tokens"], ".0f"),
            "× trained": numbers(kept["of_trained"], ".2f"),
            "": ["matched budget" if matched else "" for matched in kept["matched"]],
        }
    )
    trained = frames["arms"].set_index("arm").loc[TRAINED]
    words = (
        f"The model alone, sampled. *matched budget*: as many samples as cost no more tokens per problem than the trained vector did "
        f"({trained['spent']:.0f}, accuracy {trained['accuracy']:.1f} %), or all there are. The first k "
        "samples of a run are what a run of k "
        "samples would have drawn."
    )
    return [Section("Voting and temperature at the vector's token budget", table, [words])]


def folds_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """Transductive and inductive accuracy side by side."""
    folds = frames["folds"]
    if folds.empty:
        return []
    shown = {"problems": list(folds["problems"]), "n": numbers(folds["n"], ".0f")}
    shown |= {f"{name} %": numbers(folds[name]) for name in (RELEASED, UNTRAINED, HELD_OUT, WITHIN, TRAINED)}
    shown |= {"within - held out": numbers(folds["points"], "+.1f"), "95 % interval": intervals(folds, "+.1f")}
    words = (
        f"Every problem under the vector that never saw it (*{HELD_OUT}*, inductive), under the one optimised "
        f"on its own half (*{WITHIN}*) and "
        "under the one optimised on all (*trained*; both transductive). Halves are stratified by level, else "
        "subject, where known. The rows of "
        "halves and strata are not adjusted for being many."
    )
    return [Section("Held-out folds", texts(shown), [words])]


def updates_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """The course of the optimisation, and the updates that a rule and hindsight choose."""
    updates = frames["updates"]
    if updates.empty:
        return []
    table = texts(
        {
            "seed": numbers(updates["seed"], ".0f"),
            "update": numbers(updates["update"], ".0f"),
            "accuracy %": numbers(updates["accuracy"]),
            "95 % interval": intervals(updates),
            "entropy, nats": numbers(updates["entropy"], ".2f"),
            "entropy of rollouts": numbers(updates["rollout_entropy"], ".2f"),
            "mean tokens": numbers(updates["tokens"], ".0f"),
            "boxed %": numbers(updates["boxed"], ".0f"),
            "truncated %": numbers(updates["truncated"], ".0f"),
            "chosen": list(updates["chosen"]),
        }
    )
    words = (
        f"*{RULE}*: the update that the recipe reports (`recipe.optimization.reported`), declared beforehand "
        f"and without labels; *{LAST}*: the last "
        f"one; *{HINDSIGHT}*: chosen by the very accuracies shown, so that its accuracy overstates what "
        "choosing would give on other problems."
    )
    return [Section("While optimising", table, [words])]


SECTIONS: dict[str, Callable[[Suite, Waterfall, Frames], list[Section]]] = {
    "waterfall": verdict_section,
    "arms": arms_section,
    "draws": draws_section,
    "controls": controls_section,
    "voting": voting_section,
    "folds": folds_section,
    "decomposition": decomposition_sections,
    "caps": caps_section,
    "lengths": lengths_section,
    "strata": strata_section,
    "graders": graders_section,
    "updates": updates_section,
}
