"""How a sweep's cells ended, whichever process ran them, and the end of a run or sweep: its table, and the cells that failed.

Each cell leaves a file in the sweep's own directory when it ends; where a worker left none, its launcher does.
"""

import contextlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ttsv.config import component
from ttsv.records import UserError
from ttsv.report import write_report
from ttsv.store import write_atomically


@dataclass(frozen=True)
class End:
    """How a cell ended: what it has to itself among the sweep's overrides, and why it failed, or None."""

    cell: str
    reason: str | None


def succeed() -> None:
    """Record that the cell of this process is finished; outside a sweep there is nothing to record."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        _record(HydraConfig.get(), None)


def fail(reason: str) -> None:
    """Say why a cell failed; a sweep goes on with the next one, a single run ends with status 2."""
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        refuse(reason)
    _record(HydraConfig.get(), reason)


def note_lost(node: Any, error: BaseException | None) -> None:
    """Record that the worker of a cell (given by the ``hydra`` node of its config) was lost, if the cell left no record itself."""
    if not _file(node).exists():
        # The kind of error alone, so that cells lost in the same way stand together.
        why = type(error).__name__ if error else "it left no record of its end"
        _record(node, f"the process that ran this cell was lost ({why}); what it had finished is kept")


def refuse(reason: str) -> NoReturn:
    """Say why nothing can be run, and end with the status for what the user can mend."""
    print(f"\nerror: {reason}", file=sys.stderr)
    sys.exit(2)


def interrupted() -> NoReturn:
    """End with the status of an interrupted program."""
    print("\ninterrupted; the same command goes on from the last checkpoint", file=sys.stderr)
    sys.exit(130)


def read_ends(folder: Path) -> list[End]:
    """Return how the cells of a sweep ended, in their order."""
    files = sorted((folder / "ends").glob("*.json"), key=lambda file: int(file.stem))
    return [End(**json.loads(file.read_text())) for file in files]


def grouped(ends: Sequence[End]) -> str:
    """Return the failed cells in words: each message once, below it the cells that it holds for."""
    cells: dict[str, list[str]] = {}
    for end in ends:
        if end.reason is not None:
            cells.setdefault(end.reason, []).append(end.cell)
    return "\n".join(
        "\n".join([f"  {reason}".replace("\n", "\n  "), *(f"    {cell}" for cell in found)])
        for reason, found in cells.items()
    )


def _record(node: Any, reason: str | None) -> None:
    """Write a cell's end, and say what failed: in full where no other cell of the sweep has said it yet."""
    end = End(" ".join(_own_words(node)), reason)
    if reason is not None:
        told = any(other.reason == reason for other in read_ends(Path(str(node.sweep.dir))))
        print(f"\nerror: {end.cell}: {'the same again' if told else reason}", file=sys.stderr)
    _file(node).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(_file(node), json.dumps(asdict(end)))


def _own_words(node: Any) -> list[str]:
    """Return a cell's overrides without those that the sweep's command line gave to all of its cells."""
    words = [str(word) for word in node.overrides.task]
    sweep = Path(str(node.sweep.dir)) / "multirun.yaml"  # written by Hydra's sweeper before the first cell
    common = OmegaConf.load(sweep).hydra.overrides.task if sweep.is_file() else []
    return [word for word in words if word not in common] or words


def _file(node: Any) -> Path:
    return Path(str(node.sweep.dir)) / "ends" / f"{node.job.num}.json"


class TableAfterSweep(Callback):
    """Prints the study's table once, after a single run or at the end of a sweep, and the cells that failed.

    Hydra finds it by name. It stands in a module of its own, since what ``python -m`` runs is another module than the one of its name.
    """

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """After a single run."""
        self._print(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """After a sweep; leaves with status 2 if a cell failed."""
        self._print(config)
        folder = Path(str(config.hydra.sweep.dir))
        ends = read_ends(folder)
        failed = sum(end.reason is not None for end in ends)
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            cells = "cell" if failed == 1 else "cells"
            print(f"\n{failed} {cells} failed; the same command tries again:\n{grouped(ends)}", file=sys.stderr)
            sys.exit(2)

    def _print(self, config: DictConfig) -> None:
        results, study = Path(config.results_dir), str(config.study)
        if list((results / "runs" / study).glob("*.json")):
            print(f"\n{write_report(results, study).brief}")
            with contextlib.suppress(UserError):  # each of the cells was refused for it before
                component(config.tracking, "tracking").study(results / "runs" / study)
