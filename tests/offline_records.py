"""Reads what wandb wrote offline: the transaction log ``run-<id>.wandb``, which is a LevelDB log of protobuf records."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import Record, RunRecord

BLOCK, HEADER = 32 * 1024, 7
FULL, LAST = 1, 4


def records_of(file: Path) -> Iterator[Any]:
    """Yield the records. The file begins with 7 bytes of its own; then come chunks (CRC, length, kind) that never cross a block."""
    content, place, record = file.read_bytes(), HEADER, b""
    assert content.startswith(b":W&B")
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        record += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (FULL, LAST):
            yield Record.FromString(record)
            record = b""


@dataclass(frozen=True)
class OfflineRun:
    """One run as wandb would send it. ``history`` has a row per step; ``kinds`` are the kinds of records that there are."""

    folder: Path
    run: RunRecord
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    step_metrics: dict[str, str]
    kinds: set[str]

    def table(self, name: str) -> dict[str, Any]:
        """Return a table's file: ``columns`` and ``data``."""
        found: dict[str, Any] = json.loads((self.folder / "files" / self.summary[name]["path"]).read_text())
        return found


def read_offline(folder: Path) -> OfflineRun:
    """Read one folder ``offline-run-<date>-<id>``."""
    (file,) = folder.glob("*.wandb")
    run, kinds = RunRecord(), set()
    config, summary, history, step_metrics = {}, {}, [], {}
    for record in records_of(file):
        kind = record.WhichOneof("record_type")
        kinds.add(kind)
        if kind == "run":
            run = record.run
            config |= _items(run.config.update)
        elif kind == "config":
            config |= _items(record.config.update)
        elif kind == "history":
            history.append(_items(record.history.item))
        elif kind == "summary":
            summary |= _items(record.summary.update)
        elif kind == "metric":
            step_metrics[record.metric.glob_name or record.metric.name] = record.metric.step_metric
    return OfflineRun(folder, run, config, history, summary, step_metrics, kinds)


def read_all(folder: Path) -> list[OfflineRun]:
    """Read all runs below a folder that wandb wrote to, the oldest first; it writes until its service has ended."""
    wandb.teardown()
    found = sorted(folder.glob("wandb/offline-run-*"), key=lambda p: p.stat().st_mtime_ns)
    return [read_offline(path) for path in found]


def _items(items: Any) -> dict[str, Any]:
    """Return key and value of each item; a key of several parts leads into dictionaries."""
    found: dict[str, Any] = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        inner = found
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = json.loads(item.value_json)
    return found
