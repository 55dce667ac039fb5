"""What every task offers, whatever its problems come from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from ttsv.records import Problem


@dataclass(frozen=True)
class Loaded:
    """Problems in the order of their source, and where they came from.

    ``provenance`` holds ``source`` (``file``, ``hub`` or ``reasoning-gym``), ``rows`` (number of problems),
    ``problems_sha256`` and what identifies the source: ``path`` and ``sha256`` of a file; ``path``, ``config``,
    ``split`` and the resolved ``revision`` of a hub data set; families, seed and package version of a generated one.
    """

    problems: list[Problem]
    provenance: Mapping[str, object]


class Task(Protocol):
    """A named source of problems; ``data_dir`` holds local copies as ``<data_dir>/<name>/test.jsonl``."""

    @property
    def name(self) -> str:
        """Name of the task, unique among the task configs."""
        ...

    def read(self, data_dir: Path | None) -> Loaded:
        """Problems and provenance; raises ``UserError`` naming the file and line of the first fault."""
        ...

    def load(self, data_dir: Path | None) -> list[Problem]:
        """The problems alone."""
        ...

    def availability(self, data_dir: Path | None) -> str:
        """Where the problems will come from, in a line; downloads nothing; raises ``UserError`` if from nowhere."""
        ...


def problems_sha256(problems: Sequence[Problem]) -> str:
    """Hex SHA-256 of all fields of the problems, in order: what is asked, and what is held to be right."""
    rows = json.dumps([asdict(problem) for problem in problems], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(rows.encode()).hexdigest()
