"""Frames as Markdown and as LaTeX: numbers as text, blanks for what is absent, and what a text may hold in either."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from ttsv.tables import BASELINES

PREAMBLE = "% Needs \\usepackage{booktabs} and \\usepackage{adjustbox}.\n"

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "→": r"$\to$",
        "×": r"$\times$",
    }
)
"""The characters that mean something to LaTeX, or that its default fonts lack; in one pass, so that none is escaped twice."""


@dataclass(frozen=True)
class Section:
    """One part of a report: a title, a table of texts under their headings, and lines of prose before and after it.

    ``brief`` are the headings that a terminal has room for; all of them where there are none.
    """

    title: str
    table: pd.DataFrame
    before: Sequence[str] = field(default_factory=list)
    after: Sequence[str] = field(default_factory=list)
    brief: Sequence[str] = ()


def in_brief(section: Section) -> str:
    """Return a section for a terminal, as Markdown: only the columns of ``section.brief``, and nothing before the table."""
    shown = [heading for heading in section.table if not section.brief or heading in section.brief]
    return markdown(replace(section, table=section.table[shown], before=()))


def markdown(section: Section) -> str:
    """Return a section as Markdown."""
    text = section.table.map(lambda value: value.replace("|", r"\|").replace("\n", " "))
    table = "" if text.empty else str(text.to_markdown(index=False, disable_numparse=True))
    paragraphs = [*section.before, table]
    closing = "\n".join(f"- {line}" for line in section.after)
    return "\n\n".join(filter(None, [f"## {section.title}", *paragraphs, closing])) + "\n"


def latex(section: Section) -> str:
    """Return a section's table as LaTeX with rules of booktabs, shrunk to the line where it is wider."""
    if section.table.empty:
        return ""
    escaped = section.table.map(escape).rename(columns=escape)
    layout = "".join("l" if column in _WORDS else "r" for column in section.table.columns)
    tabular = escaped.style.hide(axis="index").to_latex(hrules=True, column_format=layout).rstrip()
    lines = ["\\begin{table}", "\\centering", f"\\caption{{{escape(section.title)}}}"]
    lines += ["\\begin{adjustbox}{max width=\\linewidth}", tabular, "\\end{adjustbox}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return text that LaTeX prints as it stands."""
    return text.translate(_LATEX)


_WORDS = (
    "half",
    "method",
    "model",
    "task",
    "adapted on",
    "setting",
    "source",
    "conditions",
    "note",
    "prompt",
    "to run it",
)
"""Headings of columns that hold words, set to the left; numbers stand to the right."""

_COMPARISON = {
    "half": "half",
    "method": "method",
    "seed": "seed",
    "n": "n",
    "accuracy": "accuracy %",
    "interval": "95 % interval",
    "gain_none": "gain over none",
    "interval_none": "95 % (none)",
    "p_none": "p (none)",
    "p_holm_none": "Holm p (none)",
    "flow_none": "w→r / r→w (none)",
    "gain_untrained_prefix": "gain over untrained",
    "interval_untrained_prefix": "95 % (untrained)",
    "p_untrained_prefix": "p (untrained)",
    "p_holm_untrained_prefix": "Holm p (untrained)",
    "flow_untrained_prefix": "w→r / r→w (untrained)",
    "boxed": "boxed %",
    "truncated": "truncated %",
    "tokens": "mean tokens",
    "spent": "tokens spent",
    "timeouts": "no verdict",
    "graders_disagree": "graders disagree",
    "seconds": "seconds",
    "note": "note",
}

COMPARISON_BRIEF = (
    "half",
    "method",
    "seed",
    "accuracy %",
    "95 % interval",
    "gain over none",
    "Holm p (none)",
    "gain over untrained",
    "Holm p (untrained)",
    "truncated %",
    "mean tokens",
    "note",
)

COMPARISON_LEGEND = (
    "*half*: `optimised` are the problems that the vector was optimised on (without labels), `held-out` the others. *95 % interval*: "
    "Wilson's (below 50 problems Agresti and Coull's); with several samples, clustered by problem. *gain*: percentage points, "
    "in brackets relative to the baseline's accuracy, with its own 95 % interval. *p*: exact McNemar test on the "
    "same problems (several samples a problem: sign-flip test; mean over seeds: problems and seeds both count as drawn, from 3 seeds "
    "on). *Holm p*: the same, adjusted for all tests of the table; the sentences go by it. *w→r / r→w*: problems that went from wrong "
    "to right and from right to wrong. *tokens spent*: per problem, rollouts + loss + evaluated responses. *no verdict*: rows on which the "
    "grader ran out of time or failed; they count as wrong.\n"
)


def comparison_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return :func:`ttsv.tables.comparison` as texts under headings, without the columns that are blank throughout."""
    shown = pd.DataFrame([_comparison_row(row) for row in frame.to_dict("records")])
    filled = [name for name in _COMPARISON if (shown[name] != "").any()]
    return shown[filled].rename(columns=_COMPARISON)


def _comparison_row(row: Mapping[Hashable, Any]) -> dict[str, str]:
    cells = {name: "" if _absent(row[name]) else str(row[name]) for name in ("half", "method", "seed", "n", "note")}
    cells |= {"accuracy": number(row["accuracy"]), "interval": interval(row["ci_low"], row["ci_high"])}
    for base in BASELINES:
        gain, relative, p = row[f"gain_{base}"], row[f"relative_{base}"], row[f"p_{base}"]
        shown_relative = "" if _absent(relative) else f" ({relative:+.0f} %)"
        cells[f"gain_{base}"] = "" if _absent(gain) else f"{gain:+.1f}{shown_relative}"
        cells[f"interval_{base}"] = interval(row[f"gain_low_{base}"], row[f"gain_high_{base}"], "+.1f")
        cells[f"p_{base}"] = number(p, ".3g")
        cells[f"p_holm_{base}"] = number(row[f"p_holm_{base}"], ".3g")
        flow = (row[f"wrong_to_right_{base}"], row[f"right_to_wrong_{base}"])
        cells[f"flow_{base}"] = "" if _absent(flow[0]) else f"{flow[0]:.0f} / {flow[1]:.0f}"
    for name in ("boxed", "truncated", "tokens", "spent", "timeouts", "graders_disagree", "seconds"):
        cells[name] = number(row[name], ".0f")
    return cells


def published_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return :func:`ttsv.published.beside` as texts under headings; a cell that was not run says so, with its command."""
    shown = pd.DataFrame(
        {
            "model": frame["model"],
            "task": frame["task"],
            "method": frame["method"],
            "adapted on": frame["adapt_task"],
            "setting": frame["setting"],
            "published %": [number(value) or "n/a" for value in frame["published"]],
            "source": frame["source"],
            "reproduced %": [number(value) or "not run" for value in frame["reproduced"]],
            "95 % interval": [interval(*ends) for ends in zip(frame["low"], frame["high"], strict=True)],
            "difference": [number(value, "+.1f") for value in frame["difference"]],
            "seeds": [number(value, ".0f") for value in frame["seeds"]],
            "n": [number(value, ".0f") for value in frame["n"]],
            "tokens spent": [number(value, ".0f") for value in frame["tokens"]],
            "conditions": frame["conditions"],
            "note": frame["note"],
            "to run it": frame["command"],
        }
    )
    return shown[[name for name in shown if (shown[name] != "").any()]]


def budget_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of :func:`ttsv.budgets.budgets` as texts under headings."""
    shown = pd.DataFrame(
        {
            "method": frame["method"],
            "prompt": frame["prompt"],
            "samples": [number(value, ".0f") for value in frame["samples"]],
            "temperature": [number(value, "g") or "the model's own" for value in frame["temperature"]],
            "half": frame["half"],
            "conditions": frame["conditions"],
            "seeds": [number(value, ".0f") for value in frame["seeds"]],
            "tokens spent": [number(value, ".0f") for value in frame["tokens"]],
            "× ttsv": [number(value, ".2f") for value in frame["of_ttsv"]],
            "accuracy %": [number(value) for value in frame["accuracy"]],
            "95 % interval": [interval(*ends) for ends in zip(frame["low"], frame["high"], strict=True)],
        }
    )
    return shown[[name for name in shown if (shown[name] != "").any()]]


def robustness_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame of :class:`ttsv.robustness.Robustness` as texts under headings."""
    shown = pd.DataFrame(
        {
            "setting": frame["first"],
            "against": frame["second"],
            "responses": [number(value, ".0f") for value in frame["responses"]],
            "texts differ": [number(value, ".0f") for value in frame.get("texts_differ", [None] * len(frame))],
            "answers differ": [number(value, ".0f") for value in frame["answers_differ"]],
            "w→r / r→w": [f"{a} / {b}" for a, b in zip(frame["wrong_to_right"], frame["right_to_wrong"], strict=True)],
            "points": [number(value, "+.1f") for value in frame["points"]],
            "p": [number(value, ".3g") for value in frame["p"]],
        }
    )
    return shown[[name for name in shown if (shown[name] != "").any()]]


def matrix_table(matrix: pd.DataFrame, form: str) -> pd.DataFrame:
    """Return a matrix as texts, its rows named by a first column ``adapted on``; ``-`` where a cell is missing."""
    return (
        matrix.map(lambda value: number(value, form) or "-").rename_axis(index="adapted on", columns=None).reset_index()
    )


def number(value: Any, form: str = ".1f") -> str:
    """Return a number as text, a blank where there is none."""
    return "" if _absent(value) else format(value, form)


def interval(low: Any, high: Any, form: str = ".1f") -> str:
    """Return an interval as text, a blank where there is none."""
    return "" if _absent(low) else f"{number(low, form)} to {number(high, form)}"


def _absent(value: Any) -> bool:
    return value is None or bool(pd.isna(value))
