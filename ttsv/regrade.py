r"""Grade a file of completions, or explain one of its verdicts.

``python -m ttsv.regrade FILE.jsonl --gold-key K --completion-key K --out OUT.jsonl [--grader
math_verify|release|choice]`` writes a row ``{"index", "correct", "answer", "flag", "why"}`` for each completion and
prints the accuracy with its 95 % Wilson interval and the counts of the flags. A completion is a string or a list of
strings; a list of several gives one output row each, with the same ``index`` and a ``sample`` number. ``--explain N``
prints how row N is extracted, parsed and compared instead.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from statsmodels.stats.proportion import proportion_confint

from ttsv.records import UserError, Verdict
from ttsv.regrade_runs import record_files, regrade, sample
from ttsv.scoring import ChoiceGrader, Grader, MathVerifyGrader, ReleaseGrader
from ttsv.scoring.explain import explain

GRADERS: dict[str, Callable[[float | None], Grader]] = {
    "math_verify": lambda tolerance: MathVerifyGrader(relative_tolerance=tolerance),
    "release": lambda _: ReleaseGrader(),
    "choice": lambda _: ChoiceGrader(),
}
"""What makes each grader, given the relative tolerance that a task states; only ``math_verify`` takes one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One completion to grade; ``sample`` is its place in a list of several completions, else None."""

    index: int
    sample: int | None
    gold: str
    text: str


def read_rows(path: Path, gold_key: str, completion_key: str) -> list[Row]:
    """Read a JSONL file; raises :class:`UserError` naming the line and key where a row cannot be used."""
    return [
        row
        for index, record in enumerate(_records(path))
        for row in _rows(path, index, record, gold_key, completion_key)
    ]


def _records(path: Path) -> Iterator[object]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a file of JSON lines") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); give a file of JSON lines") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:  # more digits than Python reads are a ValueError too
            raise UserError(f"{path}, line {number}: expected a JSON object, got {line[:60]!r} ({error})") from error


def _rows(path: Path, index: int, record: object, gold_key: str, completion_key: str) -> list[Row]:
    place = f"{path}, row {index}"
    if not isinstance(record, dict):
        raise UserError(f"{place}: expected a JSON object, got {type(record).__name__}")
    for option, key in (("--gold-key", gold_key), ("--completion-key", completion_key)):
        if key not in record:
            raise UserError(f"{place}: no key {key!r} (from {option}); the row has {', '.join(map(repr, record))}")
    gold, texts = record[gold_key], record[completion_key]
    if isinstance(gold, bool) or not isinstance(gold, str | int | float):
        raise UserError(
            f"{place}: the gold answer under {gold_key!r} must be a string or number, got {type(gold).__name__}"
        )
    gold = str(gold)
    if isinstance(texts, str):
        return [Row(index, None, gold, texts)]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(
            f"{place}: {completion_key!r} must be a string or a list of strings, got {type(texts).__name__}"
        )
    if len(texts) < 2:
        return [Row(index, None, gold, *(texts or [""]))]  # no completion is no answer, and counts
    return [Row(index, sample, gold, text) for sample, text in enumerate(texts)]


def write_verdicts(path: Path, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
    """Write one JSON line per row, through a temporary file so that a cut-off run leaves no half file."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    with temporary.open("w", encoding="utf-8") as file:
        for row, verdict in zip(rows, verdicts, strict=True):
            sample = {} if row.sample is None else {"sample": row.sample}
            outcome = {"correct": verdict.correct, "answer": verdict.answer, "flag": verdict.flag, "why": verdict.why}
            file.write(json.dumps({"index": row.index, **sample, **outcome}) + "\n")
    temporary.replace(path)


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return the accuracy with its 95 % Wilson interval, and the counts of the flags."""
    count, correct = len(verdicts), sum(verdict.correct for verdict in verdicts)
    if not count:
        return "no rows"
    low, high = proportion_confint(correct, count, alpha=0.05, method="wilson")
    flags = Counter(verdict.flag for verdict in verdicts)
    counted = ", ".join(f"{flag} {flags.get(flag, 0)}" for flag in ("ok", "no_answer", "unparsed", "timeout", "error"))
    interval = f"95 % interval {100 * low:.1f} to {100 * high:.1f}"
    accuracy = f"accuracy {correct}/{count} = {100 * correct / count:.1f} % ({interval})"
    return f"{accuracy}\nflags: {counted}"


def regrade_file(path: Path, gold_key: str, completion_key: str, out: Path, grader: Grader) -> list[Verdict]:
    """Grade a file of completions and write the verdicts; returns them in the order of the rows.

    Raises:
        UserError: if the file cannot be used, or the verdicts not be written.
    """
    rows = read_rows(path, gold_key, completion_key)
    if out.is_dir() or out.resolve() == path.resolve():
        raise UserError(f"--out {out} is {'a folder' if out.is_dir() else 'the file to be graded'}; name another file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; give --out another place") from error
    verdicts = grader.grade([row.gold for row in rows], [row.text for row in rows])
    write_verdicts(out, rows, verdicts)
    return verdicts


def explain_row(path: Path, gold_key: str, completion_key: str, number: int, grader: Grader) -> str:
    """Return the account of row ``number`` (counted from 0; every completion of it)."""
    rows = [row for row in read_rows(path, gold_key, completion_key) if row.index == number]
    if not rows:
        raise UserError(f"{path} has no row {number}; rows are counted from 0")
    return "\n\n".join(explain(grader, row.gold, row.text) for row in rows)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ttsv.regrade", description="Grade a file of completions, or finished runs again."
    )
    parser.add_argument(
        "path", type=Path, help="a file of JSON lines, a study (results/runs/STUDY), or one of its records (.json)"
    )
    parser.add_argument("--gold-key", help="key of the gold answer")
    parser.add_argument("--completion-key", help="key of the completion: a string or a list of strings")
    parser.add_argument("--out", type=Path, help="where to write the verdicts, JSON lines")
    parser.add_argument("--grader", choices=sorted(GRADERS), default="math_verify")
    parser.add_argument("--explain", type=int, metavar="N", help="explain row N (from 0) and write nothing")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> str:
    """Carry out the command and return what it prints."""
    if not arguments.path.exists():
        raise UserError(f"cannot read {arguments.path}: there is no such file or folder")
    if arguments.path.is_dir() or arguments.path.suffix == ".json":
        return _run_on_records(arguments, GRADERS[arguments.grader])
    grader = GRADERS[arguments.grader](None)
    for option in ("gold_key", "completion_key"):
        if getattr(arguments, option) is None:
            raise UserError(f"--{option.replace('_', '-')} is needed for a file of completions")
    if arguments.explain is not None:
        return explain_row(arguments.path, arguments.gold_key, arguments.completion_key, arguments.explain, grader)
    if arguments.out is None:
        raise UserError("--out is needed: where to write the verdicts")
    return summary(regrade_file(arguments.path, arguments.gold_key, arguments.completion_key, arguments.out, grader))


def _run_on_records(arguments: argparse.Namespace, make: Callable[[float | None], Grader]) -> str:
    files = record_files(arguments.path)
    if arguments.explain is not None:
        if len(files) > 1:
            raise UserError(
                f"--explain needs one run; {arguments.path} holds {len(files)}, give one of its .json files"
            )
        gold, text, tolerance = sample(files[0], arguments.explain)
        return explain(make(tolerance), gold, text)
    parts: dict[Path, str] = {}  # the records of one run under several graders become one
    for file in files:
        new, samples = regrade(file, make)
        verdicts = [Verdict(r["correct"], r["answer"], r["flag"], r["why"]) for r in samples.to_dict("records")]
        parts[new] = f"{new}\n{summary(verdicts)}"
    return "\n".join([*parts.values(), "python -m ttsv.report makes the tables again"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        print(run(_arguments(argv)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
