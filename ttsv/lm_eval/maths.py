"""What the task configs beside this file call: our problems as a data set of lm-eval's, and our graders' verdicts as its metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from omegaconf import OmegaConf

from ttsv.config import component
from ttsv.records import UserError
from ttsv.scoring import ChoiceGrader, Grader, MathVerifyGrader
from ttsv.tasks import Task

CONF = Path(__file__).resolve().parents[2] / "conf" / "task"


def problems(problems: str, data_dir: str | None = None, **metadata: Any) -> DatasetDict:
    """Return the problems of ``conf/task/<problems>.yaml`` as the split ``test``: ``id``, ``question``, ``gold``, ``subject``, ``level``,
    ``relative_tolerance``.

    They are read as everywhere in this package: from ``<data_dir>/<name>/test.jsonl``, if lm-eval is told ``--metadata data_dir=DIR``, else
    from the hub at the revision of the config. Further ``metadata``, such as the model's arguments, is not used.

    Raises:
        UserError: naming what is missing.
    """
    file = CONF / f"{problems}.yaml"
    if not file.is_file():
        raise UserError(f"there is no {file}; expected the name of a task config, got {problems!r}")
    task: Task = component(OmegaConf.load(file), f"conf/task/{problems}.yaml")  # type: ignore[arg-type]
    found = task.load(Path(data_dir).expanduser() if data_dir else None)
    tolerance = getattr(task, "relative_tolerance", None)
    rows = [{**asdict(problem), "relative_tolerance": tolerance} for problem in found]
    return DatasetDict({"test": Dataset.from_list(rows)})


def grade(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return the verdict of ``MathVerifyGrader``, with the task's own tolerance if it states one; see :func:`_verdict`."""
    return _verdict(MathVerifyGrader(relative_tolerance=doc["relative_tolerance"]), doc, results)


def grade_choice(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return the verdict of ``ChoiceGrader``; see :func:`_verdict`."""
    return _verdict(ChoiceGrader(), doc, results)


def _verdict(grader: Grader, doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return ``exact_match``, and ``no_verdict`` where the grader ran out of time or failed; such a row counts as wrong."""
    verdict = grader.grade([str(doc["gold"])], [results[0]])[0]
    return {"exact_match": float(verdict.correct), "no_verdict": float(verdict.flag in ("timeout", "error"))}
