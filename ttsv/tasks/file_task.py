"""A task whose problems are rows: of a local JSONL file where a data directory is given, else of a hub data set."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ttsv.records import Problem, UserError
from ttsv.tasks.base import Loaded, problems_sha256
from ttsv.tasks.choices import MultipleChoice
from ttsv.tasks.fields import Fields, Row, problems_of
from ttsv.tasks.hub import HubSource


@dataclass(frozen=True)
class FileTask:
    """Problems from ``<data_dir>/<name>/<file>``, or from ``hub`` where ``data_dir`` is None.

    ``fields`` names the fields of the file, and of the hub data set too unless ``hub.fields`` says otherwise.
    ``relative_tolerance``, where the task's own convention allows one, is what the grader's config takes over: plain
    numbers then count as equal that differ by at most this share of the gold.
    """

    name: str
    fields: Fields
    hub: HubSource | None = None
    choices: MultipleChoice | None = None
    file: str = "test.jsonl"
    relative_tolerance: float | None = None

    def load(self, data_dir: Path | None) -> list[Problem]:
        """The problems in the order of their source; raises ``UserError`` (see ``read``)."""
        return self.read(data_dir).problems

    def read(self, data_dir: Path | None) -> Loaded:
        """Problems and provenance; raises ``UserError`` for a missing or faulty source, naming file and line."""
        if data_dir is not None:
            return self._read_file(self._existing_file(data_dir))
        return self._read_hub(self._existing_hub())

    def availability(self, data_dir: Path | None) -> str:
        """Where the problems will come from; downloads nothing; raises ``UserError`` if they cannot be had."""
        if data_dir is not None:
            path = self._existing_file(data_dir)
            return f"{self.name}: {path} ({path.stat().st_size / 1e6:.2f} MB)"
        return f"{self.name}: {self._existing_hub().availability(self._file_hint())}"

    def _read_file(self, path: Path) -> Loaded:
        content = path.read_bytes()
        problems = problems_of(_rows(content, path), self.fields, self.name, self.choices)
        if not problems:
            raise UserError(f"{path}: holds no rows; expected one JSON object a line")
        return Loaded(
            problems,
            {
                "source": "file",
                "path": str(path),
                "sha256": hashlib.sha256(content).hexdigest(),
                "rows": len(problems),
                "problems_sha256": problems_sha256(problems),
            },
        )

    def _read_hub(self, hub: HubSource) -> Loaded:
        rows, revision = hub.rows(self._file_hint())
        located = ((f"{hub.label}, row {number}", row) for number, row in enumerate(rows))
        problems = problems_of(located, hub.fields or self.fields, self.name, self.choices)
        if not problems:
            raise UserError(f"{hub.label}: holds no rows; check the config and split of task {self.name!r}")
        return Loaded(
            problems,
            {
                "source": "hub",
                "path": hub.path,
                "config": hub.config,
                "split": hub.split,
                "revision": revision,
                "rows": len(problems),
                "problems_sha256": problems_sha256(problems),
            },
        )

    def _existing_file(self, data_dir: Path) -> Path:
        path = Path(data_dir) / self.name / self.file
        if path.is_file():
            return path
        elsewhere = f", or leave data_dir unset to take {self.hub.label} from the hub" if self.hub else ""
        raise UserError(f"task {self.name!r}: no file {path}; put its rows there as JSON lines{elsewhere}")

    def _existing_hub(self) -> HubSource:
        if self.hub is None:
            raise UserError(f"task {self.name!r} has no hub data set: {self._file_hint()}")
        return self.hub

    def _file_hint(self) -> str:
        return f"give data_dir=<folder>, with the rows as JSON lines in <folder>/{self.name}/{self.file}"


def _rows(content: bytes, path: Path) -> Iterator[tuple[str, Row]]:
    # Split on \n alone: str.splitlines would also cut at U+2028 and others, which are legal inside JSON strings.
    for number, line in enumerate(content.split(b"\n"), start=1):
        where = f"{path}:{number}"
        try:
            text = line.decode("utf-8-sig").strip()
            row = json.loads(text) if text else None
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 ({error.reason} at byte {error.start} of the line)") from error
        except json.JSONDecodeError as error:
            raise UserError(
                f"{where}: not JSON ({error.msg} at column {error.colno}); expected an object a line"
            ) from error
        if not text:
            continue
        if not isinstance(row, Mapping):
            raise UserError(f"{where}: expected a JSON object, got {type(row).__name__}")
        yield where, row
