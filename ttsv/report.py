"""Reports from run records and stage directories alone: no model, no torch. ``python -m ttsv.report --help``."""

import argparse
import json
import logging
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ttsv.records import UserError
from ttsv.store import read_manifest, write_atomically
from ttsv.tables import BASELINES, Cell, Group, comparison, resolution, verdicts

log = logging.getLogger(__name__)

SHARED_FACTS = (
    "model",
    "task",
    "prompt",
    "recipe",
    "scale",
    "grader",
    "limit",
    "adapt_on",
    "problems",
    "evaluation",
    "conditions",
    "prompt_config",
    "weights",
    "device",
    "grader_config",
)
"""What cells of one table have in common."""

TITLES = {
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
    "timeouts": "no verdict",
    "graders_disagree": "graders disagree",
    "seconds": "seconds",
    "note": "note",
}


def read_cell(record_file: Path, results: Path) -> Cell | None:
    """Return the cell of a run record, after checking the stage directories it points to; None if it was stopped before grading.

    Raises:
        UserError: naming the file, if the record is unreadable or a stage directory is missing, damaged or foreign.
    """
    try:
        record = json.loads(record_file.read_text())
        stages = {name: results / "stages" / path for name, path in record["stages"].items()}
        facts, optimised = record["facts"], frozenset(record["optimised_ids"])
        _ = [facts[name] for name in (*SHARED_FACTS, "method", "variant", "options", "seed")]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{record_file} is not a readable run record ({error!r}); delete it and run its command again"
        ) from error
    for folder in stages.values():
        read_manifest(folder)
    if "grade" not in stages:
        return None
    adaptation = json.loads((stages["adapt"] / "adaptation.json").read_text())
    generation = json.loads((stages["generate"] / "metrics.json").read_text())
    samples = pd.read_parquet(stages["grade"] / "samples.parquet")
    if "grade_second" in stages:
        other = pd.read_parquet(stages["grade_second"] / "samples.parquet")
        samples["graders_disagree"] = other["correct"] != samples["correct"]
    seconds = adaptation["seconds"] + generation["seconds"]
    return Cell({**facts, "generation": stages["generate"].name}, samples, optimised, adaptation["note"], seconds)


def read_study(folder: Path, results: Path) -> tuple[list[Group], list[str]]:
    """Return the tables' groups of cells in a study's folder, and a line for each record that cannot be used."""
    cells: list[Cell] = []
    left_out: list[str] = []
    for file in sorted(folder.glob("*.json")):
        try:
            cell = read_cell(file, results)
            cells += [cell] if cell else []
        except UserError as error:
            left_out.append(str(error))
            log.error("left out: %s", error)
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(json.dumps([cell.facts[name] for name in SHARED_FACTS]), []).append(cell)
    return [_group(found) for found in groups.values()], left_out


def _group(cells: Sequence[Cell]) -> Group:
    """Return a group without cells that only repeat a generation under another seed, as ``none`` does."""
    distinct: dict[tuple[str, str], Cell] = {}
    for cell in sorted(cells, key=lambda c: (c.seed, c.variant)):
        distinct.setdefault((cell.method, str(cell.facts["generation"])), cell)
    facts = cells[0].facts
    size = f"{len(set(cells[0].samples['problem_id']))} problems" + (" (a seeded subset)" if facts["limit"] else "")
    mini = ", mini scale" if facts["scale"] == "mini" else ""
    rules = f"prompt {facts['prompt']}, recipe {facts['recipe']}{mini}, grader {facts['grader']}"
    rules += f", {facts['conditions']}" if facts["conditions"] else ""
    title = f"{facts['model']} on {facts['task']}, {size}: {rules}"
    return Group(title, list(distinct.values()), dict(facts))


def markdown(groups: Sequence[Group], left_out: Sequence[str]) -> str:
    """Return the report as Markdown: per group a table and what the tests show, in words."""
    parts = []
    for group in groups:
        lines = [
            f"## {group.title}",
            "",
            _markdown_table(comparison(group)),
            "",
            *(f"{line}\n" for line in [resolution(group)] if line),
            *(f"- {sentence}" for sentence in verdicts(group)),
        ]
        parts.append("\n".join(lines).rstrip() + "\n")
    if left_out:
        parts.append("## Left out\n\n" + "\n".join(f"- {line}" for line in left_out) + "\n")
    parts.append(
        "*half*: `optimised` are the problems that the vector was optimised on (without labels), `held-out` the others. *95 % interval*: "
        "Wilson's (below 50 problems Agresti and Coull's); with several samples a problem, clustered by problem. *gain*: percentage points, in brackets relative to the baseline's "
        "accuracy, with its 95 % interval (one test at a time). *p*: exact McNemar test on the same problems (several samples: "
        "sign-flip test; mean over seeds: problems and seeds both count as drawn, from 3 seeds on). *Holm p*: the same, adjusted for all "
        "tests of the table; the sentences go by it. *w→r / r→w*: problems that went from wrong to right and from right to wrong. "
        "*no verdict*: rows on which the grader ran out of time or failed; they count as wrong.\n"
    )
    return "\n".join(parts)


def _markdown_table(frame: pd.DataFrame) -> str:
    shown = pd.DataFrame([_shown(row) for row in frame.to_dict("records")])
    filled = [name for name in TITLES if (shown[name] != "").any()]
    return str(shown[filled].rename(columns=TITLES).to_markdown(index=False, disable_numparse=True))


def _shown(row: Mapping[Hashable, Any]) -> dict[str, str]:
    """Return a row of the comparison as text, a blank where there is nothing to say."""
    cells = {name: "" if _absent(row[name]) else str(row[name]) for name in ("half", "method", "seed", "n", "note")}
    cells["accuracy"] = f"{row['accuracy']:.1f}"
    cells["interval"] = "" if _absent(row["ci_low"]) else f"{row['ci_low']:.1f} to {row['ci_high']:.1f}"
    for base in BASELINES:
        gain, relative, p = row[f"gain_{base}"], row[f"relative_{base}"], row[f"p_{base}"]
        shown_relative = "" if _absent(relative) else f" ({relative:+.0f} %)"
        cells[f"gain_{base}"] = "" if _absent(gain) else f"{gain:+.1f}{shown_relative}"
        low, high = row[f"gain_low_{base}"], row[f"gain_high_{base}"]
        cells[f"interval_{base}"] = "" if _absent(low) else f"{low:+.1f} to {high:+.1f}"
        cells[f"p_{base}"] = "" if _absent(p) else f"{p:.3g}"
        cells[f"p_holm_{base}"] = "" if _absent(p) else f"{row[f'p_holm_{base}']:.3g}"
        flow = (row[f"wrong_to_right_{base}"], row[f"right_to_wrong_{base}"])
        cells[f"flow_{base}"] = "" if _absent(flow[0]) else f"{flow[0]:.0f} / {flow[1]:.0f}"
    for name in ("boxed", "truncated", "tokens", "timeouts", "graders_disagree", "seconds"):
        cells[name] = "" if _absent(row[name]) else f"{row[name]:.0f}"
    return cells


def _absent(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def write_report(results: Path, study: str) -> str:
    """Write ``summary.md`` and ``summary.csv`` of a study into ``<results>/runs/<study>/`` and return the Markdown.

    Raises:
        UserError: if the study has no run records.
    """
    folder = results / "runs" / study
    groups, left_out = read_study(folder, results)
    if not groups and not left_out:
        known = sorted(p.name for p in (results / "runs").glob("*") if p.is_dir())
        raise UserError(f"no graded runs in {folder}; studies there are: {', '.join(known) or 'none yet'}")
    text = markdown(groups, left_out)
    frames = [comparison(g).assign(**{name: g.context[name] for name in SHARED_FACTS}) for g in groups]
    write_atomically(folder / "summary.md", f"# {study}\n\n{text}")
    write_atomically(folder / "summary.csv", pd.concat(frames).to_csv(index=False) if frames else "")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the reports of the named studies, or of all."""
    parser = argparse.ArgumentParser(
        prog="python -m ttsv.report", description="Make summary.md and summary.csv of studies from their run records."
    )
    parser.add_argument("study", nargs="*", help="names of studies (folders below results/runs); all if none is given")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    studies = chosen.study or sorted(p.name for p in (chosen.results / "runs").glob("*") if p.is_dir())
    try:
        for study in studies or [""]:
            print(write_report(chosen.results, study))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
