"""The files of a release: where they lie, what they hash to, and the rows of its completions with their line numbers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttsv.records import UserError
from ttsv.store import file_sha256

VECTOR, COMPLETIONS, METRICS = "prefix_embeddings.pt", "completions.jsonl", "metrics.json"


@dataclass(frozen=True)
class ReleaseFolder:
    """A folder that holds a vector, completions or both; ``name`` is its path below the release, with forward slashes."""

    name: str
    vector: Path | None
    completions: Path | None
    metrics: Path | None

    @property
    def label(self) -> str:
        """The folder's own name, by convention ``<model>_<task>``."""
        return self.name.rpartition("/")[2]

    def files(self) -> list[Path]:
        """Return the files that are there."""
        return [path for path in (self.vector, self.completions, self.metrics) if path is not None]


@dataclass(frozen=True, slots=True)
class ReleasedRow:
    """One completion as released; ``line`` counts from 1 in its file, ``sample`` from 0 within the line.

    ``released`` is the verdict in the file and ``prediction`` the answer that it was given for.
    """

    line: int
    sample: int
    idx: str
    question: str
    gold: str
    completion: str
    prediction: str
    released: bool
    level: str | None


def find_release(root: Path) -> list[ReleaseFolder]:
    """Return the folders at or below ``root``, at any depth, that hold a released vector or released completions, by name.

    Raises:
        UserError: if there is none.
    """
    expected = (
        f"expected folders <model>_<task>/ at any depth with {VECTOR} (the vector), {COMPLETIONS} (a JSON object a line with question, "
        f"answer, code and score) or both, and beside them {METRICS}"
    )
    if not root.is_dir():
        raise UserError(f"no folder {root}; {expected}. Give --release the folder of the released files")
    found = {path.parent for name in (VECTOR, COMPLETIONS) for path in root.rglob(name) if path.is_file()}
    if not found:
        beside = sorted(path.name for path in root.iterdir())[:8]
        raise UserError(f"{root} holds no released files (it has {', '.join(beside) or 'nothing'}); {expected}")
    return sorted((_folder(root, path) for path in found), key=lambda folder: folder.name)


def _folder(root: Path, path: Path) -> ReleaseFolder:
    below = path.relative_to(root).as_posix()
    present = [path / name if (path / name).is_file() else None for name in (VECTOR, COMPLETIONS, METRICS)]
    return ReleaseFolder(path.resolve().name if below == "." else below, *present)


def inputs(folders: list[ReleaseFolder]) -> list[dict[str, Any]]:
    """Return name, size in bytes and SHA-256 of every file that is read."""
    return [
        {"file": f"{folder.name}/{path.name}", "bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for folder in folders
        for path in folder.files()
    ]


def read_metrics(path: Path) -> dict[str, Any]:
    """Return the released metrics.

    Raises:
        UserError: if the file does not hold a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable as JSON ({error}); copy it again from the release") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_completions(path: Path) -> list[ReleasedRow]:
    """Return the released completions, in the order of the file.

    Raises:
        UserError: naming file, line and key, where a row cannot be used; and if there is no row.
    """
    rows = [row for number, record in _records(path) for row in _rows(f"{path}:{number}", number, record)]
    if not rows:
        raise UserError(f"{path} holds no rows; expected a JSON object a line")
    return rows


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Split on \n alone: str.splitlines would also cut at U+2028 and others, which are legal inside JSON strings.
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: not JSON ({error}); a clone may hold a Git LFS pointer instead of the file: run git lfs pull"
            ) from error
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number}: expected a JSON object, got {type(record).__name__}")
        yield number, record


def _rows(place: str, number: int, record: Mapping[str, Any]) -> list[ReleasedRow]:
    for key in ("question", "answer", "code", "score"):
        if key not in record:
            raise UserError(f"{place}: no key {key!r}; the row has {', '.join(map(repr, record))}")
    texts, scores = _list(record["code"]), _list(record["score"])
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{place}: 'code' must be the completion's text, or a list of such texts")
    if len(scores) != len(texts) or not all(isinstance(score, bool) for score in scores):
        raise UserError(f"{place}: 'score' must hold true or false for each of the {len(texts)} texts of 'code'")
    predictions = _list(record.get("pred", []))
    level = record.get("level")
    return [
        ReleasedRow(
            line=number,
            sample=sample,
            idx=str(record.get("idx", number - 1)),
            question=str(record["question"]),
            gold=str(record["answer"]),
            completion=text,
            prediction=str(predictions[sample]) if sample < len(predictions) else "",
            released=score,
            level=None if level is None else str(level),
        )
        for sample, (text, score) in enumerate(zip(texts, scores, strict=True))
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
