"""The page's sections on what the responses are made of."""

from ttsv.controls.arms import HELD_OUT, RELEASED, TRAINED, UNTRAINED, Suite
from ttsv.controls.columns import Frames, intervals, numbers, pairs, texts
from ttsv.controls.decomposition import REPEATS, TRAITS
from ttsv.rendering import Section, interval, number
from ttsv.waterfall import Waterfall

MAIN = (RELEASED, UNTRAINED, HELD_OUT, TRAINED)
"""Arms that long tables show; the files hold all."""


def decomposition_sections(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """Traits, failures of format, flows."""
    traits = frames["traits"]
    traits = traits[traits["arm"].isin(MAIN) & ((traits["share"] > 0) | (traits["trait"] == "code"))]
    table = texts(
        {
            "arm": list(traits["arm"]),
            "trait": list(traits["trait"]),
            "share %": numbers(traits["share"], ".0f"),
            "accuracy with %": numbers(traits["accuracy_with"]),
            "right / wrong with": pairs(traits, "right_with", "wrong_with"),
            "accuracy without %": numbers(traits["accuracy_without"]),
            "right / wrong without": pairs(traits, "right_without", "wrong_without"),
        }
    )
    rules = "; ".join(f"*{name}*: {rule}" for name, (rule, _) in TRAITS.items())
    words = (
        f"Responses of all seeds pooled. {rules}. The columns compare different problems and are no estimate of what a trait does. "
        "All arms: `controls/traits.csv`."
    )
    return [Section("What the verdicts are made of", table, [words]), *_failures(frames), *_flows(frames)]


def _failures(frames: Frames) -> list[Section]:
    failures, found = frames["failures"], frames["format"]
    if failures.empty:
        return []
    table = texts(
        {
            "arm": list(failures["arm"]),
            "right %": numbers(failures["right"]),
            "format %": numbers(failures["format"]),
            "no answer %": numbers(failures["no answer"]),
            "wrong answer %": numbers(failures["wrong answer"]),
            "right in a lenient reading %": numbers(failures["lenient"]),
            "wrong and truncated %": numbers(failures["truncated_wrong"]),
        }
    )
    words = (
        "*format*: wrong as graded, but the last formula or number of a response without a closed box equals "
        "the gold answer, or, of several "
        "boxes, the first. Such a match may be luck, so the column is an upper bound of failures of format that these two readings find."
    )
    sections = [Section("Failures of format", table, [words])]
    if len(found):
        gains = texts(
            {
                "comparison": [
                    f"{after} - {before}" for after, before in zip(found["after"], found["before"], strict=True)
                ],
                "reading": list(found["reading"]),
                "points": numbers(found["points"], "+.1f"),
                "95 % interval": intervals(found, "+.1f"),
                "p": numbers(found["p"], ".3g"),
            }
        )
        words = (
            "*format* is the difference of the two readings: the part of a gain that is answers given in a form "
            "that is graded. Not adjusted."
        )
        sections.append(Section("The gain in both readings", gains, [words]))
    return sections


def _flows(frames: Frames) -> list[Section]:
    flows = frames["flows"]
    keys = ["after", "before", "failure", "truncated"]
    wide = flows.pivot_table(index=keys, columns="direction", values="count", aggfunc="sum", sort=False).reset_index()
    wide = wide[(wide["gained"] > 0) | (wide["lost"] > 0)]
    if wide.empty:
        return []
    table = texts(
        {
            "comparison": [f"{after} - {before}" for after, before in zip(wide["after"], wide["before"], strict=True)],
            "the wrong response": [
                f"{row['failure']}{', truncated' if row['truncated'] else ''}" for row in wide.to_dict("records")
            ],
            "wrong to right": numbers(wide["gained"], ".0f"),
            "right to wrong": numbers(wide["lost"], ".0f"),
        }
    )
    return [
        Section("Which responses changed", table, ["By how the wrong one of the two failed; responses of all seeds."])
    ]


def caps_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """Accuracy against the generation cap."""
    caps = frames["caps"]
    if caps.empty:
        return []
    accuracy = caps.pivot_table(index="arm", columns="cap", values="accuracy", sort=False).sort_index(axis=1)
    table = accuracy.map(number).reset_index().rename(columns=str)
    words = (
        "Accuracy in percent at each number of new tokens allowed: the run's own responses cut there and "
        "graded again, which is what a smaller cap "
        "would have given. Arms joined from two halves are not cut. Intervals, box and truncation rates: `controls/caps.csv`."
    )
    return [Section("Accuracy against the generation cap", table, [words])]


def lengths_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """How long the responses are, and how many repeat themselves."""
    lengths = frames["lengths"]
    columns = {"arm": list(lengths["arm"])}
    names = {
        "quarter": "25 %",
        "median": "median",
        "three_quarters": "75 %",
        "mean_right": "mean of right",
        "mean_wrong": "mean of wrong",
    }
    columns |= {heading: numbers(lengths[name], ".0f") for name, heading in names.items()}
    columns |= {"repeated 4-grams %": numbers(lengths["repetition"]), "repeats itself %": numbers(lengths["repeats"])}
    words = (
        f"Tokens of a response, its end token included. *repeats itself*: at least {REPEATS:.0%} of a "
        "response's 4-grams stood in it before."
    )
    return [Section("Length and repetition", texts(columns), [words])]


def strata_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """Accuracy by level and subject."""
    strata = frames["strata"]
    if strata.empty:
        return []
    shown = strata[strata["arm"].isin(MAIN)]
    cells = shown.assign(
        text=[f"{a:.1f} ({interval(*ends)})" for a, *ends in shown[["accuracy", "low", "high"]].to_numpy()]
    )
    wide = cells.pivot_table(index=["by", "value", "n"], columns="arm", values="text", aggfunc="first").reset_index()
    table = wide[["by", "value", "n", *(name for name in MAIN if name in wide)]].astype(str).rename_axis(columns=None)
    return [
        Section(
            "By level and subject",
            table,
            ["Accuracy in percent with its 95 % interval; all arms: `controls/strata.csv`."],
        )
    ]


def graders_section(suite: Suite, verdict: Waterfall, frames: Frames) -> list[Section]:
    """How far the two graders agree."""
    found = frames["graders"]
    if found.empty:
        return []
    columns = {
        "arm": list(found["arm"]),
        "responses": numbers(found["responses"], ".0f"),
        "disagree": numbers(found["disagree"], ".0f"),
    }
    columns |= {"accuracy %": numbers(found["accuracy"]), "second grader %": numbers(found["second"])}
    if "gain" in found:
        columns |= {
            "points over no prefix": numbers(found["gain"], "+.1f"),
            "the same, second grader": numbers(found["second_gain"], "+.1f"),
        }
    target = (suite.released.setting("second_grader") or {}).get("_target_", "")
    words = (
        f"*accuracy*: by `{suite.released.facts['grader']}`, which this page goes by; *second grader*: "
        f"`{target.rpartition('.')[2] or 'the other'}`, on the same responses. Nothing is tested here; what changes its sign with the "
        "grader is no finding about the vector."
    )
    return [Section("Agreement of graders", texts(columns), [words])]
