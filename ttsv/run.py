"""Run one cell, or with ``-m`` a sweep, and print its table: Hydra's entry point."""

import logging
import sys

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from tqdm.contrib.logging import logging_redirect_tqdm

from ttsv import launchers, preflight, ranks, sweep
from ttsv.config import build, component
from ttsv.pipeline import run_cell
from ttsv.records import UserError

launchers.register()


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
        sweep.succeed()
    except UserError as error:
        sweep.fail(str(error))
    except torch.OutOfMemoryError as error:
        sweep.fail(
            f"{error}\nFinished stages are kept; this one starts anew with other options. Lower {preflight.MEMORY_OPTIONS}"
        )
    except OSError as error:
        sweep.fail(f"{error}\nWhat was finished is kept; the same command goes on from there")
    except Exception as error:
        # Nothing that one cell meets may keep the others of a sweep from being run; a single run shows it as it is.
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            raise
        logging.getLogger("ttsv").exception("this cell failed in a way that was not foreseen")
        sweep.fail(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sweep.interrupted()


if __name__ == "__main__":
    with ranks.joined() as leading:
        if leading:
            main()
