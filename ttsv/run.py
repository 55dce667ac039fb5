"""Run one cell, or with ``-m`` a sweep, and print its table: Hydra's entry point."""

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from tqdm.contrib.logging import logging_redirect_tqdm

from ttsv import preflight
from ttsv.config import build, component
from ttsv.pipeline import run_cell
from ttsv.records import UserError
from ttsv.report import write_report

_failures: list[str] = []
"""Cells of this process's sweep that could not be finished, with the reason."""


class TableAfterSweep(Callback):
    """Prints the study's table once, after a single run or at the end of a sweep, and the cells that failed."""

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """After a single run."""
        self._print(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """After a sweep; leaves with status 2 if a cell failed."""
        self._print(config)
        if _failures:
            print(
                f"\n{len(_failures)} cells failed; the same command tries them again:",
                *_failures,
                sep="\n  ",
                file=sys.stderr,
            )
            sys.exit(2)

    def _print(self, config: DictConfig) -> None:
        results, study = Path(config.results_dir), str(config.study)
        if list((results / "runs" / study).glob("*.json")):
            print(f"\n{write_report(results, study)}\nKept as {results / 'runs' / study}/summary.md and summary.csv")
            with contextlib.suppress(UserError):  # each of the cells was refused for it before
                component(config.tracking, "tracking").study(results / "runs" / study)


def _fail(reason: str) -> None:
    """Say why a cell failed; a sweep goes on with the next one, a single run ends with status 2."""
    print(f"\nerror: {reason}", file=sys.stderr)
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        sys.exit(2)
    _failures.append(f"{' '.join(HydraConfig.get().overrides.task)}: {reason.splitlines()[0]}")


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def main(config: DictConfig) -> None:
    """Run the composed cell, turning what the user can mend into a message without a stack trace."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "datasets", "filelock", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        with logging_redirect_tqdm():
            mirror = component(config.tracking, "tracking")
            mirror.cell(run_cell(build(config)))
    except UserError as error:
        _fail(str(error))
    except torch.OutOfMemoryError as error:
        _fail(
            f"{error}\nFinished stages are kept; this one starts anew with other options. Lower {preflight.MEMORY_OPTIONS}"
        )
    except OSError as error:
        _fail(f"{error}\nWhat was finished is kept; the same command goes on from there")
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
