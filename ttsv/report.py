"""Reports from run records and stage directories alone: no model, no torch. ``python -m ttsv.report --help``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ttsv.budgets import budgets
from ttsv.controls import write_page
from ttsv.illustrations import illustrate
from ttsv.published import SOURCES, beside, read_published
from ttsv.records import UserError
from ttsv.rendering import (
    COMPARISON_BRIEF,
    COMPARISON_LEGEND,
    PREAMBLE,
    Section,
    budget_table,
    comparison_table,
    in_brief,
    latex,
    markdown,
    matrix_table,
    published_table,
    robustness_table,
)
from ttsv.robustness import robustness
from ttsv.sentences import resolution, verdicts
from ttsv.store import write_atomically
from ttsv.study import SHARED_FACTS, Cell, Group, grouped, read_cells, rules
from ttsv.tables import comparison
from ttsv.transfer import Transfer, transfers

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
"""The claims of the paper, a folder each with its published numbers."""


@dataclass
class Report:
    """A study's sections, and the frames behind them as CSV files: name to frame."""

    sections: list[Section] = field(default_factory=list)
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)

    def add(self, sections: Sequence[Section], name: str, frame: pd.DataFrame | None) -> None:
        """Add sections and the frame that they show."""
        self.sections += sections
        if frame is not None:
            self.frames[name] = frame


@dataclass(frozen=True)
class Written:
    """A written report: the whole text of ``summary.md`` below its title, and what of it a terminal has room for."""

    text: str
    brief: str


def write_report(results: Path, study: str, experiments: Path = EXPERIMENTS) -> Written:
    """Write a study's tables and figures into ``<results>/runs/<study>/`` and return the report.

    ``summary.md`` and ``.tex`` always, ``summary.csv`` where there are runs; ``published.*`` where ``<experiments>/<study>/published.csv``
    has numbers to compare with; ``transfer.csv``, ``budgets.csv``, ``robustness.csv`` and the page of the control suite where the runs
    have them; ``figures/``.

    Raises:
        UserError: if the study has no run records and is no claim, or if the claim's published numbers are not readable.
    """
    folder = results / "runs" / study
    cells, left_out = read_cells(folder, results)
    published = read_published(experiments / study)
    if not cells and not left_out and published is None:
        known = sorted(p.name for p in (results / "runs").glob("*") if p.is_dir())
        raise UserError(f"no graded runs in {folder}; studies there are: {', '.join(known) or 'none yet'}")
    folder.mkdir(parents=True, exist_ok=True)
    before = _drawn(folder)
    report, compared = Report(), [(group, comparison(group)) for group in grouped(cells)]
    if published is not None:
        _add_published(report, beside(study, published, cells), folder)
    report.add([group_section(group, frame) for group, frame in compared], "summary", summary(compared))
    _add_transfers(report, cells)
    _add_budgets(report, cells)
    _add_robustness(report, cells)
    figures = illustrate(cells, folder / "figures")
    page = write_page(study, cells, folder)
    remarks = ["## Left out\n\n" + "\n".join(f"- {line}" for line in left_out) + "\n"] if left_out else []
    parts = [markdown(section) for section in report.sections]
    if figures:
        shown = "\n\n".join(f"![{title}](figures/{path.name}.png)" for path, title in figures)
        parts.append(f"## Figures\n\n{shown}\n")
    if page:
        parts.append(f"How much of the gain is real, arm by arm: [{page.name}]({page.name})\n")
    text = "\n".join([*parts, *remarks, *([COMPARISON_LEGEND] if compared or left_out else [])])
    _write(report, text, folder)
    _remove_outdated(before, _drawn(folder))
    return Written(text, "\n".join([f"# {study}\n", *_briefly(report), *remarks, _kept(folder, len(figures), page)]))


def _drawn(folder: Path) -> dict[Path, int]:
    """Return when the figures and the control suite's tables in a study's folder were written, in ns."""
    files = [*folder.glob("figures/*.png"), *folder.glob("figures/*.svg"), *folder.glob("controls/*.csv")]
    return {file: file.stat().st_mtime_ns for file in files}


def _remove_outdated(before: dict[Path, int], after: dict[Path, int]) -> None:
    """Delete what an earlier report wrote and this one did not: of runs that are gone, or of another division of them."""
    for file, _ in before.items() & after.items():
        file.unlink(missing_ok=True)


def _write(report: Report, text: str, folder: Path) -> None:
    for name, frame in report.frames.items():
        write_atomically(folder / f"{name}.csv", frame.to_csv(index=False))
    write_atomically(folder / "summary.md", f"# {folder.name}\n\n{text}")
    write_atomically(folder / "summary.tex", PREAMBLE + "\n".join(latex(section) for section in report.sections))


def _briefly(report: Report) -> list[str]:
    """Return the sections for a terminal; published numbers of which none is reproduced yet are counted, not listed."""
    table = report.frames.get("published")
    if table is None or table["reproduced"].notna().any():
        return [in_brief(section) for section in report.sections]
    waiting = (
        f"{len(table)} published numbers, none of them reproduced yet: they need full scale (commands: published.md).\n"
    )
    return [waiting, *(in_brief(section) for section in report.sections[1:])]


def _kept(folder: Path, figures: int, page: Path | None) -> str:
    """Return the line that says where all of it is kept."""
    drawn = f", {figures} figure{'s' if figures > 1 else ''} in {folder}/figures" if figures else ""
    return f"All columns and what they mean: {folder}/summary.md (.csv, .tex){f', {page}' if page else ''}{drawn}"


def summary(compared: Sequence[tuple[Group, pd.DataFrame]]) -> pd.DataFrame | None:
    """Return the comparisons of all groups as one frame, with what each group shares in columns of its own; None if there is none."""
    frames = [frame.assign(**{name: group.context[name] for name in SHARED_FACTS}) for group, frame in compared]
    return pd.concat(frames) if frames else None


def _add_published(report: Report, table: pd.DataFrame, folder: Path) -> None:
    section = published_section(table)
    report.add([section], "published", table)
    write_atomically(folder / "published.md", markdown(section))
    write_atomically(folder / "published.tex", PREAMBLE + latex(section))


def published_section(table: pd.DataFrame) -> Section:
    """Return the section of published beside reproduced numbers."""
    sources = [source for source in SOURCES if (table["source"] == source).any()]
    explained = "; ".join(f"`{source}`: {SOURCES[source]}" for source in sources)
    before = [
        "Reproduced: full-scale runs of the same model, mean over seeds, its interval clustered by problem with the seeds as given. "
        f"*difference*: points, reproduced - published. Source {explained}."
    ]
    brief = (
        "model",
        "task",
        "method",
        "adapted on",
        "setting",
        "published %",
        "reproduced %",
        "95 % interval",
        "difference",
        "seeds",
    )
    return Section("Published beside reproduced (full scale)", published_table(table), before, brief=brief)


def group_section(group: Group, frame: pd.DataFrame) -> Section:
    """Return the section of a group: its comparison, and what the tests show, in words."""
    words = [*filter(None, [resolution(frame)]), *group.remarks(), *verdicts(frame)]
    return Section(group.title, comparison_table(frame), after=words, brief=COMPARISON_BRIEF)


def _add_transfers(report: Report, cells: Sequence[Cell]) -> None:
    found = transfers(cells)
    sections = [section for transfer in found for section in transfer_sections(transfer)]
    frames = [
        t.frame.assign(method=t.method, **{n: t.facts[n] for n in ("model", "scale", "recipe", "prompt")})
        for t in found
    ]
    report.add(sections, "transfer", pd.concat(frames) if frames else None)


def transfer_sections(transfer: Transfer) -> list[Section]:
    """Return the matrices of a method: accuracy, absolute and relative gain; the last says how its own task differs from the others."""
    title = f"Transfer of {transfer.method}, {transfer.facts['model']}: {rules(transfer.facts)}"
    matrices = {"accuracy, %": ("accuracy", ".1f"), "gain over none, points": ("gain", "+.1f")}
    matrices["gain relative to none, %"] = ("relative", "+.0f")
    own = []
    if transfer.own is not None:
        centre, low, high = transfer.own
        own = [
            f"Vectors of the task itself (the diagonal) minus vectors of other tasks (off it), mean over tasks: {centre:+.1f} points "
            f"(95 %: {low:+.1f} to {high:+.1f}; tasks and seeds as given, problems drawn)."
        ]
    sections = [
        Section(f"{title} ({what})", matrix_table(transfer.matrix(column), form))
        for what, (column, form) in matrices.items()
    ]
    return [*sections[:-1], Section(sections[-1].title, sections[-1].table, after=own)]


def _add_budgets(report: Report, cells: Sequence[Cell]) -> None:
    found = budgets(cells)
    sections = [Section(title, budget_table(frame)) for title, frame in found]
    frames = [frame.assign(problems=title) for title, frame in found]
    report.add(sections, "budgets", pd.concat(frames) if frames else None)


def _add_robustness(report: Report, cells: Sequence[Cell]) -> None:
    found = robustness(cells)
    sections = [Section(f"Noise floor: {of.title}", robustness_table(of.frame), after=[of.sentence()]) for of in found]
    frames = [of.frame.assign(vector=of.title, floor=of.floor) for of in found]
    report.add(sections, "robustness", pd.concat(frames) if frames else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the reports of the named studies, or of all."""
    parser = argparse.ArgumentParser(
        prog="python -m ttsv.report",
        description="Make the tables and figures of studies from their run records and the published numbers.",
    )
    parser.add_argument(
        "study", nargs="*", help="names of studies (folders below results/runs); all, and all claims, if none is given"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    parser.add_argument(
        "--experiments",
        type=Path,
        default=EXPERIMENTS,
        help="the claims with their published numbers (default: experiments)",
    )
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    run = {path.name for path in (chosen.results / "runs").glob("*") if path.is_dir()}
    claims = {path.parent.name for path in chosen.experiments.glob("*/published.csv")}
    try:
        for study in chosen.study or sorted(run | claims) or [""]:
            print(write_report(chosen.results, study, chosen.experiments).brief, end="\n\n")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
