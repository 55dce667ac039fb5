"""The two pages as Markdown."""

from collections.abc import Mapping, Sequence
from itertools import chain

import pandas as pd

from ttsv.coverage.intervals import Row
from ttsv.coverage.verdicts import BASELINE, DRAWS, NOTHING, SPREAD, TRUTHS
from ttsv.coverage.verdicts import Row as VerdictRow

POOR = (0.93, 0.975)

SECTIONS = {
    "accuracy": "Accuracy, one sample a problem",
    "avg@k": "Accuracy, k samples a problem",
    "difference": "Difference of two methods, one sample a problem",
    "difference of avg@k": "Difference of two methods, k samples a problem",
    "difference over seeds": "Mean difference over the seeds of a method",
}

ABOUT = """
How often a 95 % interval holds the truth, its mean width in percentage points, and, where the truth is no difference, how often
the procedure states one (false positives; 5 % is nominal). {datasets:,} data sets per row; the Monte Carlo error (one standard
error) of a share near 5 or 95 % is {error:.2f} points. In bold what the tables use; the others are shown for comparison. `low` marks
coverage below 93 %, `high` above 97.5 %, `liberal` a test with more than 5 % (and two Monte Carlo errors) of false positives.

`a+b`: each problem has a chance of being solved of its own, drawn from a Beta distribution with the stated mean; the smaller a+b,
the more alike the samples of a problem are (0.3: most problems are nearly always or nearly never solved). `change`: the share of
problems whose verdict changes. `sd`: standard deviation of the seeds' true gains, in points. The bootstraps are percentile
intervals: 1000 resamples for single differences, 500 for seeds; the sign-flip test used 999 flips here.

## What was chosen

{choices}
"""

CHOICES = {
    "accuracy": """Accuracy, one sample a problem: Wilson's interval; below 50 problems Agresti and Coull's
  (`ttsv.stats.accuracy_interval`): enumerated over accuracies of 1 to 99 %, Wilson's
  covers 89.9 % at worst with 30 problems, theirs 93.4 %.""",
    "avg@k": """Accuracy, k samples: Wilson's with an effective number of problems, and N itself where fewer than five problems' worth of
  answers are right, or wrong (`ttsv.stats.accuracy_interval`). There it can be too wide.""",
    "difference": """Difference, one seed: two imaginary problems, one gained and one lost (`ttsv.stats.difference_interval`). Where few
  of 30 or 40 problems change, this errs to the safe side and the others to the other. Decisions go by McNemar's exact test.""",
    "difference of avg@k": """Difference, k samples: the same, the imaginary problems 1/sqrt(k) in size. Decisions
  go by the sign-flip test.""",
    "difference over seeds": """Mean difference over seeds: the squared errors of seeds and of problems added, from three seeds on. The
  hierarchical bootstrap takes problems that all seeds share for fresh ones and is used nowhere.""",
}


def interval_page(found: Sequence[Sequence[Row]], datasets: int, how: str) -> str:
    """Return the page on intervals and tests."""
    rows = list(chain.from_iterable(found))
    error = 100 * (0.95 * 0.05 / datasets) ** 0.5
    choices = "\n".join(f"- {text}{_range(rows, section)}" for section, text in CHOICES.items())
    about = ABOUT.format(datasets=datasets, error=error, choices=choices)
    parts = [f"# Coverage of the intervals and level of the tests\n\n{how}.", about]
    for section, title in SECTIONS.items():
        shown = pd.DataFrame([_interval_row(row, error / 100) for row in rows if row.section == section])
        shown = shown.loc[:, (shown != "").any()]
        parts.append(f"## {title}\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n")
    return "\n".join(parts)


def _range(rows: Sequence[Row], section: str) -> str:
    """Return the worst coverages of each procedure of a section, per number of problems."""
    frame = pd.DataFrame([vars(row) for row in rows if row.section == section and row.coverage is not None])
    lines = []
    for name, of_procedure in frame.groupby("procedure", sort=False):
        ends = of_procedure.groupby("problems")["coverage"].agg(["min", "max"]) * 100
        sizes = ", ".join(f"{low:.1f} to {high:.1f} (n={n})" for n, low, high in ends.itertuples())
        lines.append(f"\n  - coverage of {name}, %: {sizes}")
    return "".join(lines)


def _interval_row(row: Row, error: float) -> dict[str, str]:
    marks = []
    if row.coverage is not None:
        marks = [word for word, poor in (("low", row.coverage < POOR[0]), ("high", row.coverage > POOR[1])) if poor]
    elif row.shown is not None:
        marks = ["liberal"] if row.shown > 0.05 + 2 * error else []
    return {
        "n": str(row.problems),
        "truth": row.truth,
        "procedure": row.procedure,
        "coverage %": "" if row.coverage is None else f"{100 * row.coverage:.1f}",
        "mean width": "" if row.width is None else f"{100 * row.width:.1f}",
        "false positives %": "" if row.shown is None else f"{100 * row.shown:.1f}",
        "": " ".join(marks),
    }


VERDICTS = """
The rules of `ttsv.waterfall` on {datasets:,} simulated data sets per row; Monte Carlo error (one standard error) of a share:
{error:.1f} points at 5 %, {worst:.1f} at 50 %. Baseline accuracy {baseline:.0%}, Beta chances with a+b = {spread:g} (two runs that do not
differ disagree on {discordance:.0%} of the problems), two other prompts, {draws} other random prefixes, all steps present.
*sd*: standard deviation of the true effects of single vectors (trained, untrained, random, held out), in points.

- *right*: no stated direction is false, and the directions that name the cause are stated. For `nothing`: no direction is stated.
- *silent*: no stated direction is false, and not all that name the cause are stated.
- *wrong*: at least one stated direction is false.
- *a range missed*: at least one of the printed ranges leaves the true value out (5 % are allowed for the page as a whole).

The truths, as effects on the accuracy over the released baseline:

{truths}
"""


def verdict_page(rows: Sequence[VerdictRow], datasets: int, how: str) -> str:
    """Return the page on the verdict rules."""
    truths = [f"- `{name}`: {truth.words}. Right: {_cause(truth.cause)}." for name, truth in TRUTHS.items()]
    truths.append(f"- `nothing`: {NOTHING.words}.")
    about = VERDICTS.format(
        datasets=datasets,
        error=100 * (0.05 * 0.95 / datasets) ** 0.5,
        worst=50 / datasets**0.5,
        baseline=BASELINE,
        spread=SPREAD,
        discordance=2 * BASELINE * (1 - BASELINE) * SPREAD / (1 + SPREAD),
        draws=DRAWS,
        truths="\n".join(truths),
    )
    frame = pd.DataFrame(
        [
            {
                "truth": row.truth,
                "n": row.problems,
                "seeds": row.seeds,
                "sd, points": f"{100 * row.sd:.0f}",
                "effect, points": f"{100 * row.effect:.0f}",
                **{f"{name} %": f"{100 * getattr(row, name):.1f}" for name in ("right", "silent", "wrong")},
                "a range missed %": f"{100 * row.missed:.1f}",
            }
            for row in rows
        ]
    )
    table = frame.to_markdown(index=False, disable_numparse=True)
    return f"# How often the verdict is right, silent and wrong\n\n{how}.\n{about}\n{table}\n\n{_summary(rows)}\n"


def _cause(cause: Mapping[str, int]) -> str:
    items = cause.items()
    return ", ".join(f"{name} {'positive' if sign > 0 else 'negative'}" for name, sign in items)


def _summary(rows: Sequence[VerdictRow]) -> str:
    def where(row: VerdictRow) -> str:
        return (
            f"({row.truth}, n={row.problems}, {100 * row.effect:.0f} points, {row.seeds} seeds, sd {100 * row.sd:.0f})"
        )

    wrong, missed = max(rows, key=lambda row: row.wrong), max(rows, key=lambda row: row.missed)
    worst = f"Most often wrong: {100 * wrong.wrong:.1f} % {where(wrong)}."
    return f"{worst} Most often a range missed: {100 * missed.missed:.1f} % {where(missed)}."
