"""The cells of a sweep, as Hydra itself makes them: a whole multirun whose program only keeps what it is given."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ttsv import launchers
from ttsv.cell import Cell
from ttsv.config import build
from ttsv.records import UserError

CONF = Path(__file__).resolve().parents[2] / "conf"
OF_THE_SWEEP = ("-m", "--multirun", "hydra/launcher=", "hydra.launcher.", "+hydra.launcher.", "hydra.sweep.")
"""Words of a sweep's command line that say where and how cells are run, not which."""


@dataclass(frozen=True)
class Refused:
    """A cell that would be refused, with the reason."""

    words: tuple[str, ...]
    reason: str


def expand(words: Sequence[str]) -> list[Cell | Refused]:
    """Return the cells that ``python -m ttsv.run -m`` would run with these words, in its order.

    Hydra ends the program where it cannot compose a config at all, as it does for a run.
    """
    found: list[Cell | Refused] = []

    def keep(config: DictConfig) -> None:
        try:
            found.append(build(config))
        except UserError as error:
            found.append(Refused(tuple(HydraConfig.get().overrides.task), str(error)))

    launchers.register()
    chosen = [word for word in words if not word.startswith(OF_THE_SWEEP)]
    before = sys.argv
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["hydra/launcher=basic", "~hydra.callbacks.table", f"hydra.sweep.dir={folder}"]
        sys.argv = ["ttsv.plan", "--multirun", *chosen, *quiet]
        try:
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(keep)()
        finally:
            sys.argv = before
    return found
