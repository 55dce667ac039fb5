"""Content-addressed stage directories: a result is found by what determines it, or it is computed once and put there.

A stage directory ``<root>/<kind>/<label>-<digest>/`` appears by one rename when everything in it, ``manifest.json`` included,
is on disk; until then the work lies in ``<root>/<kind>/.work-<digest>/`` and can be gone on with. The manifest holds the key
that the digest is made from and the SHA-256 of every file, so a damaged or foreign directory is noticed before it is used.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ttsv.records import UserError

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
KEY = "key.json"
LOG = "log.txt"
PROVENANCE = "provenance.json"
UNFINISHED = "unfinished"
"""Folder inside a working folder for what serves an interrupted run alone; it is not part of the result."""


class DamagedStageError(UserError):
    """A stage directory does not hold what its manifest says."""


def canonical_json(content: Any) -> str:
    """Return ``content`` as JSON with sorted keys and no white space: equal content gives equal text."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(content: Any) -> str:
    """Return the SHA-256 (hex) of JSON-able ``content``."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; what was written takes the place of ``path``, whole or not at all, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write ``data`` so that ``path`` holds either its old content or all of the new, also after a crash."""
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def slug(text: str) -> str:
    """Return ``text`` fit for a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:80]


def record_name(label: str, facts: Mapping[str, Any]) -> str:
    """Return the file name of a cell's record: the same cell, run or graded again, takes the place of the older record."""
    return f"{label}-{digest({name: value for name, value in facts.items() if name != 'grader_config'})[:8]}.json"


@dataclass(frozen=True)
class Stage:
    """One place in the store: complete (``path`` exists) or not yet (``work`` may hold partial results)."""

    kind: str
    path: Path
    work: Path
    key: Mapping[str, Any]
    digest: str

    def is_complete(self) -> bool:
        """Tell whether the result is there, whole and this stage's own.

        Raises:
            DamagedStageError: if the directory exists but a file is missing, changed or belongs to another key.
        """
        if not self.path.exists():
            return False
        self.verify()
        return True

    def verify(self) -> None:
        """Check the directory against its manifest; see :meth:`is_complete`. Unlisted files are warned of and left unread."""
        manifest = read_manifest(self.path)
        if manifest["digest"] != self.digest:
            raise DamagedStageError(
                f"{self.path / MANIFEST} belongs to another result: got digest {manifest['digest']}, expected {self.digest}. "
                f"Somebody copied or edited it; delete {self.path} and run the same command again."
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this stage for one process; others wait and then find it complete. A killed holder frees it."""
        self.work.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.work.with_name(f".lock-{self.digest[:16]}"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process is computing %s; waiting for it", self.path.name)
            lock.acquire()
        try:
            self._finish_commit()
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def open_work(self) -> Iterator[Path]:
        """Yield the working folder, with what an interrupted run left there; :meth:`commit` turns it into the result."""
        self.work.mkdir(parents=True, exist_ok=True)
        self._check_work()
        handler = logging.FileHandler(self.work / LOG)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("ttsv").addHandler(handler)
        try:
            yield self.work
        finally:
            logging.getLogger("ttsv").removeHandler(handler)
            handler.close()

    def commit(self) -> None:
        """Turn the working folder into the finished stage directory, at once."""
        for leftover in self.work.rglob(".*.tmp"):
            leftover.unlink()
        names = [name for name in _files_below(self.work) if name not in (KEY, MANIFEST)]
        files = {name: file_sha256(self.work / name) for name in names if not name.startswith(f"{UNFINISHED}/")}
        manifest = {"kind": self.kind, "digest": self.digest, "key": self.key, "files": files}
        write_atomically(self.work / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
        self._finish_commit()

    def _check_work(self) -> None:
        """Refuse a working folder that is not this stage's; give an empty one its key."""
        key_file, remedy = self.work / KEY, f"delete {self.work} and run the same command again."
        try:
            found = digest(json.loads(key_file.read_text()))
        except FileNotFoundError:
            files = [name for name in _files_below(self.work) if not name.endswith(".tmp")]
            if files:
                raise DamagedStageError(
                    f"{self.work} holds files but no {KEY} ({', '.join(files)}), so nobody knows whose they are; {remedy}"
                ) from None
            write_atomically(key_file, json.dumps(self.key, indent=1, sort_keys=True))
            return
        except ValueError as error:
            raise DamagedStageError(f"{key_file} is not readable ({error!r}); {remedy}") from error
        if found != self.digest:
            raise DamagedStageError(f"{key_file} belongs to another result; {remedy}")

    def _finish_commit(self) -> None:
        """Move a working folder whose manifest is written into its place; also where a commit was cut off before that."""
        if (self.work / MANIFEST).exists() and not self.path.exists():
            shutil.rmtree(self.work / UNFINISHED, ignore_errors=True)
            (self.work / KEY).unlink(missing_ok=True)
            self.work.rename(self.path)


@dataclass(frozen=True)
class Store:
    """All stage directories below ``root``."""

    root: Path

    def stage(self, kind: str, label: str, key: Mapping[str, Any]) -> Stage:
        """Return the place of the result that ``key`` (JSON-able) determines; ``label`` only makes the folder readable."""
        plain = json.loads(canonical_json(key))
        name = digest(plain)
        folder = self.root / kind
        finished = next(folder.glob(f"[!.]*-{name[:16]}"), None)
        return Stage(
            kind, finished or folder / f"{slug(label)}-{name[:16]}", folder / f".work-{name[:16]}", plain, name
        )


def open_stage(folder: Path) -> Stage:
    """Return the finished stage in ``folder``, checked; see :func:`read_manifest` for what is raised."""
    manifest = read_manifest(folder)
    work = folder.with_name(f".work-{manifest['digest'][:16]}")
    return Stage(manifest["kind"], folder, work, manifest["key"], manifest["digest"])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a finished stage directory after checking every file it lists.

    Raises:
        DamagedStageError: naming the file, if the manifest is missing, unreadable or another result's, or a listed file is missing or
            changed.
    """
    path = folder / MANIFEST
    remedy = f"Delete {folder} and run the same command again."
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        files = dict(manifest["files"])
        own = digest(manifest["key"])
        whole = own == manifest["digest"] and folder.name.endswith(f"-{own[:16]}")
        _ = manifest["kind"]
    except FileNotFoundError as error:
        raise DamagedStageError(f"{path} is missing: {folder} is no finished result. {remedy}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedStageError(f"{path} is not a readable manifest ({error!r}). {remedy}") from error
    if not whole:
        raise DamagedStageError(
            f"{path} belongs to another result: its key has digest {own}, which the folder is not named after. "
            f"Somebody copied or edited it. {remedy}"
        )
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            raise DamagedStageError(f"{file} is missing although {MANIFEST} lists it. {remedy}")
        if _sha256_of(file, file.stat().st_size, file.stat().st_mtime_ns) != expected:
            raise DamagedStageError(
                f"{file} was changed after it was written: its SHA-256 is not that in {MANIFEST}. {remedy}"
            )
    for extra in _files_below(folder):
        if extra not in files and extra != MANIFEST:
            log.warning("%s is not part of the result and is not read", folder / extra)
    return manifest


@lru_cache(maxsize=4096)
def _sha256_of(file: Path, size: int, changed: int) -> str:
    """Return the hash of a file, computed once a process for each of its states: many cells of a study share an adaptation."""
    return file_sha256(file)


def _files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@dataclass(frozen=True)
class Outcome:
    """A finished stage, and whether it was there already."""

    stage: Stage
    reused: bool


def once(stage: Stage, compute: Callable[[Path], None], provenance: Callable[[], Mapping[str, Any]]) -> Outcome:
    """Return the finished stage, computing it under its lock if it is not there."""
    if stage.is_complete():
        return Outcome(stage, reused=True)
    with stage.locked():
        if stage.is_complete():
            return Outcome(stage, reused=True)
        with stage.open_work() as work:
            log.info("%s: computing %s", stage.kind, stage.path.name)
            compute(work)
            write_json(work / PROVENANCE, provenance())
        stage.commit()
    return Outcome(stage, reused=False)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``rows`` as JSON lines, atomically."""
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as JSON, atomically."""
    write_atomically(path, json.dumps(content, indent=1))
