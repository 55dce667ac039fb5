"""A method whose cell takes its process with it, as the system does where memory runs out: what the tests of sweeps lose workers with."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from ttsv.methods.base import Adapted, Load, Setting
from ttsv.methods.none import NoPrefix


@dataclass(frozen=True)
class Lost(NoPrefix):
    """Ends its process with SIGKILL."""

    name: str = "lost"

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError
