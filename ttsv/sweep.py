"""The end of a run or sweep: its table, and the cells that failed."""

import contextlib
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from ttsv.config import component
from ttsv.records import UserError
from ttsv.report import write_report

_failures: list[str] = []
"""Cells of this process's sweep that could not be finished, with the reason."""


def fail(reason: str) -> None:
    """Say why a cell failed; a sweep goes on with the next one, a single run ends with status 2."""
    print(f"\nerror: {reason}", file=sys.stderr)
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        sys.exit(2)
    _failures.append(f"{' '.join(HydraConfig.get().overrides.task)}: {reason.splitlines()[0]}")


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
        if _failures:
            failed = list(_failures)
            _failures.clear()
            print(
                f"\n{len(failed)} cells failed; the same command tries them again:",
                *failed,
                sep="\n  ",
                file=sys.stderr,
            )
            sys.exit(2)

    def _print(self, config: DictConfig) -> None:
        results, study = Path(config.results_dir), str(config.study)
        if list((results / "runs" / study).glob("*.json")):
            print(f"\n{write_report(results, study).brief}")
            with contextlib.suppress(UserError):  # each of the cells was refused for it before
                component(config.tracking, "tracking").study(results / "runs" / study)
