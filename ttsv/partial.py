"""The finished batches of a generation that is not finished, so that an interruption costs one batch at most."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from ttsv.records import Completion, UserError
from ttsv.store import digest, write_atomically


@dataclass(frozen=True)
class Partial:
    """Batches below ``folder``, one JSON file each, in the order in which they were finished."""

    folder: Path

    def add(self, completions: Iterable[Completion], seconds: float) -> None:
        """Keep a finished batch and the seconds it took."""
        self.folder.mkdir(exist_ok=True)
        content = {"seconds": seconds, "completions": [asdict(c) for c in completions]}
        checked = {"content": content, "digest": digest(content)}
        write_atomically(self.folder / f"batch_{len(self._files()):05d}.json", json.dumps(checked))

    def completions(self) -> dict[tuple[str, int], Completion]:
        """Return what is finished, by problem id and sample.

        Raises:
            UserError: naming a batch file that cannot be read.
        """
        found = [row for file in self._files() for row in _read(file).completions]
        return {(c.problem_id, c.sample): c for c in found}

    def seconds(self) -> float:
        """Return the seconds that the finished batches took, over all attempts."""
        return float(sum(_read(file).seconds for file in self._files()))

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("batch_*.json"))


@dataclass(frozen=True)
class _Batch:
    completions: list[Completion]
    seconds: float


def _read(file: Path) -> _Batch:
    try:
        checked = json.loads(file.read_text())
        content = checked["content"]
        if digest(content) != checked["digest"]:
            raise ValueError("its content is not what was written")
        rows = [Completion.of(row) for row in content["completions"]]
        return _Batch(rows, float(content["seconds"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error!r}); delete it and run the same command again") from error
