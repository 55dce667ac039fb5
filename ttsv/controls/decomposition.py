"""What the verdicts of each arm are made of: right and wrong by what a response shows, failures of format, caps, strata and graders.

Responses of all seeds are pooled. An accuracy given a trait compares different problems: it says where an arm's right answers are, and is
no estimate of what the trait does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ttsv.controls.arms import RELEASED, TRAINED, UNTRAINED, Suite
from ttsv.controls.comparisons import interval_of
from ttsv.rereading import FIRST_BOX, LAST_EXPRESSION, REREAD
from ttsv.scoring.extract import box_ends
from ttsv.stats import accuracy_interval
from ttsv.study import Cell

REPEATS = 0.5
"""A response repeats itself where at least this share of its 4-grams stood in it before."""

Trait = Callable[[pd.DataFrame], "pd.Series[bool]"]

TRAITS: Mapping[str, tuple[str, Trait]] = {
    "boxed": ("holds a box", lambda rows: rows["boxed"]),
    "several boxes": ("more than one closed box", lambda rows: _texts(rows).map(lambda text: len(box_ends(text)) > 1)),
    "stopped": ("ended by itself", lambda rows: rows["finish_reason"] == "stop"),
    "truncated": ("ran into the generation cap", lambda rows: rows["finish_reason"] == "length"),
    "code": ("holds a fenced block marked python", lambda rows: _texts(rows).str.contains("```python", regex=False)),
    "answer extracted": ("the grader found an answer", lambda rows: rows["answer"].notna()),
    "repeats itself": (f"at least {REPEATS:.0%} of its 4-grams repeat", lambda rows: rows["repetition"] >= REPEATS),
}
"""Each trait's rule in words, and what tells it of a frame of responses."""

COMPARISONS = ((UNTRAINED, RELEASED), (TRAINED, UNTRAINED), (TRAINED, RELEASED))
RIGHT, FORMAT, NO_ANSWER, WRONG = "right", "format", "no answer", "wrong answer"


def _texts(rows: pd.DataFrame) -> "pd.Series[str]":
    return rows["text"] if "text" in rows else pd.Series("", index=rows.index)


def arms(suite: Suite) -> dict[str, Sequence[Cell]]:
    """Return every arm and other method by name."""
    return {**suite.arms, **suite.others}


def pooled(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return the responses of all seeds."""
    return pd.concat([cell.samples for cell in cells], ignore_index=True)


def traits_frame(suite: Suite) -> pd.DataFrame:
    """Return per arm and trait: right and wrong responses with and without it, its share, and the accuracy given it (percent)."""
    rows = []
    for name, cells in arms(suite).items():
        responses = pooled(cells)
        for trait, (_, holds) in TRAITS.items():
            has, right = holds(responses).astype(bool), responses["correct"].astype(bool)
            counts = {
                "right_with": int((has & right).sum()),
                "wrong_with": int((has & ~right).sum()),
                "right_without": int((~has & right).sum()),
                "wrong_without": int((~has & ~right).sum()),
            }
            rows.append(
                {
                    "arm": name,
                    "trait": trait,
                    "share": 100 * float(has.mean()),
                    "accuracy_with": 100 * float(right[has].mean()) if has.any() else None,
                    "accuracy_without": 100 * float(right[~has].mean()) if (~has).any() else None,
                    **counts,
                }
            )
    return pd.DataFrame(rows)


def lengths_frame(suite: Suite) -> pd.DataFrame:
    """Return per arm the quartiles of the response length in tokens, its means by verdict, and how much repeats (percent)."""
    rows = []
    for name, cells in arms(suite).items():
        responses = pooled(cells)
        quartiles = np.percentile(responses["tokens"], [25, 50, 75])
        row = {"arm": name, "quarter": quartiles[0], "median": quartiles[1], "three_quarters": quartiles[2]}
        for word, part in (("right", responses[responses["correct"]]), ("wrong", responses[~responses["correct"]])):
            row[f"mean_{word}"] = float(part["tokens"].mean()) if len(part) else None
        row["repetition"] = 100 * float(responses["repetition"].mean())
        rows.append({**row, "repeats": 100 * float((responses["repetition"] >= REPEATS).mean())})
    return pd.DataFrame(rows)


def outcome_of(cell: Cell) -> pd.DataFrame:
    """Return per response (``problem_id``, ``sample``) its ``outcome``: right, or how it failed, and ``truncated``.

    ``format``: wrong as graded, right in a lenient reading (:mod:`ttsv.rereading`); ``no answer``: the grader found none;
    ``wrong answer``: one was compared and is wrong. Without a reread stage nothing is called a failure of format.
    """
    rows = cell.samples[["problem_id", "sample", "correct", "answer", "finish_reason"]]
    lenient = _reread(cell)
    lenient = lenient[lenient["reading"].isin([FIRST_BOX, LAST_EXPRESSION]) & lenient["correct"]]
    rescued = pd.MultiIndex.from_frame(rows[["problem_id", "sample"]]).isin(
        pd.MultiIndex.from_frame(lenient[["problem_id", "sample"]])
    )
    outcome = np.select(
        [rows["correct"].to_numpy(dtype=bool), rescued, rows["answer"].isna().to_numpy()],
        [RIGHT, FORMAT, NO_ANSWER],
        WRONG,
    )
    truncated = rows["finish_reason"] == "length"
    return rows[["problem_id", "sample"]].assign(outcome=outcome, truncated=truncated)


def is_reread(cells: Sequence[Cell]) -> bool:
    """Tell whether all runs of an arm have their responses reread; an arm joined from two halves has none of its own."""
    return all("reread" in cell.stages for cell in cells)


def _reread(cell: Cell) -> pd.DataFrame:
    if "reread" not in cell.stages:
        return pd.DataFrame({"problem_id": [], "sample": [], "reading": [], "correct": pd.Series([], dtype=bool)})
    return pd.read_parquet(cell.stages["reread"] / REREAD)


def failures_frame(suite: Suite) -> pd.DataFrame:
    """Return per reread arm how its responses ended, in percent of all, wrong ones also by truncation; ``lenient`` is right + format."""
    rows = []
    for name, cells in arms(suite).items():
        if not is_reread(cells):
            continue
        found = pd.concat([outcome_of(cell) for cell in cells])
        row: dict[str, Any] = {"arm": name, "responses": len(found)}
        row |= {what: 100 * float((found["outcome"] == what).mean()) for what in (RIGHT, FORMAT, NO_ANSWER, WRONG)}
        row["lenient"] = row[RIGHT] + row[FORMAT]
        row["truncated_wrong"] = 100 * float(((found["outcome"] != RIGHT) & found["truncated"]).mean())
        rows.append(row)
    return pd.DataFrame(rows)


def format_frame(suite: Suite) -> pd.DataFrame:
    """Return each comparison as graded, with failures of format counted as right, and the difference of both, in points with intervals.

    That difference is the part of the gain that is format: what the second arm wins by giving its answers in a form that is graded.
    """
    rows = []
    for after, before in COMPARISONS:
        if not (is_reread(suite.arms[after]) and is_reread(suite.arms[before])):
            continue
        strict = _matrix(suite.arms[after], (RIGHT,), suite.arms[before])
        lenient = _matrix(suite.arms[after], (RIGHT, FORMAT), suite.arms[before])
        samples = min(cell.samples_per_problem for cell in (*suite.arms[after], *suite.arms[before]))
        for reading, matrix in (("as graded", strict), ("lenient", lenient), ("format", strict - lenient)):
            rows.append({"after": after, "before": before, "reading": reading, **interval_of(matrix, samples)})
    return pd.DataFrame(rows)


def _matrix(after: Sequence[Cell], good: Sequence[str], before: Sequence[Cell]) -> Any:
    """Return differences (S, N) of the shares of responses with a good outcome, each run against that of its seed, else the first."""

    def shares(cell: Cell) -> Any:
        found = outcome_of(cell)
        return found["outcome"].isin(list(good)).groupby(found["problem_id"]).mean().sort_index().to_numpy(dtype=float)

    by_seed = {cell.seed: cell for cell in before}
    return np.array([shares(cell) - shares(by_seed.get(cell.seed, before[0])) for cell in after])


def flows_frame(suite: Suite) -> pd.DataFrame:
    """Return per comparison how many responses went from wrong to right and back, by how the wrong one of the two failed.

    ``count`` over seeds; single samples only, paired by problem and seed.
    """
    rows = []
    for after, before in COMPARISONS:
        firsts = {cell.seed: cell for cell in suite.arms[before]}
        pairs = [(cell, firsts.get(cell.seed, suite.arms[before][0])) for cell in suite.arms[after]]
        both = pd.concat(
            [
                outcome_of(b).merge(outcome_of(a), on=["problem_id", "sample"], suffixes=("_before", "_after"))
                for a, b in pairs
            ]
        )
        for direction, wrong, right in (("gained", "before", "after"), ("lost", "after", "before")):
            changed = both[(both[f"outcome_{wrong}"] != RIGHT) & (both[f"outcome_{right}"] == RIGHT)]
            for failure in (FORMAT, NO_ANSWER, WRONG):
                for cut in (False, True):
                    count = int(
                        ((changed[f"outcome_{wrong}"] == failure) & (changed[f"truncated_{wrong}"] == cut)).sum()
                    )
                    row = {"after": after, "before": before, "direction": direction, "failure": failure}
                    rows.append({**row, "truncated": cut, "count": count})
    return pd.DataFrame(rows)


def caps_frame(suite: Suite) -> pd.DataFrame:
    """Return per reread arm and cap (new tokens): accuracy with 95 % interval, box and truncation rate, in percent, and mean tokens."""
    rows = []
    for name, cells in arms(suite).items():
        if not is_reread(cells):
            continue
        found = pd.concat([_reread(cell) for cell in cells])
        for cap, of_cap in found[found["reading"] == "cap"].groupby("cap"):
            of_problem = of_cap.groupby("problem_id")["correct"].mean()
            samples = len(cells) * min(cell.samples_per_problem for cell in cells)
            low, high = accuracy_interval(of_problem, samples)
            row: dict[str, Any] = {"arm": name, "cap": int(str(cap)), "accuracy": 100 * float(of_problem.mean())}
            row |= {"low": 100 * float(low), "high": 100 * float(high)}
            row |= {rate: 100 * float(of_cap[rate].mean()) for rate in ("boxed", "truncated")}
            rows.append({**row, "tokens": float(of_cap["tokens"].mean())})
    return pd.DataFrame(rows)


def strata_frame(suite: Suite) -> pd.DataFrame:
    """Return per arm and level or subject: accuracy with 95 % interval, in percent; empty where neither is known."""
    return pd.DataFrame(list(_strata(suite)))


def _strata(suite: Suite) -> Iterator[dict[str, Any]]:
    for name, cells in arms(suite).items():
        responses = pooled(cells)
        for column in ("level", "subject"):
            if column not in responses or not responses[column].notna().any():
                continue
            for value, part in responses.groupby(column):
                of_problem = part.groupby("problem_id")["correct"].mean()
                low, high = accuracy_interval(of_problem, len(cells) * min(c.samples_per_problem for c in cells))
                row = {"arm": name, "by": column, "value": str(value), "n": len(of_problem)}
                yield row | {
                    "accuracy": 100 * float(of_problem.mean()),
                    "low": 100 * float(low),
                    "high": 100 * float(high),
                }


def graders_frame(suite: Suite) -> pd.DataFrame:
    """Return per arm how the two graders agree: responses, disagreements, accuracies under both (percent), and points over no prefix."""
    rows: list[dict[str, Any]] = []
    for name, cells in arms(suite).items():
        responses = pooled(cells)
        if "graders_disagree" not in responses:
            continue
        second = responses["correct"] != responses["graders_disagree"]
        row = {"arm": name, "responses": len(responses), "disagree": int(responses["graders_disagree"].sum())}
        rows.append({**row, "accuracy": 100 * float(responses["correct"].mean()), "second": 100 * float(second.mean())})
    frame = pd.DataFrame(rows)
    if RELEASED in set(frame.get("arm", [])):
        alone = frame.set_index("arm").loc[RELEASED]
        frame = frame.assign(gain=frame["accuracy"] - alone["accuracy"], second_gain=frame["second"] - alone["second"])
    return frame
