"""Progress bars with a time estimate: lively on a terminal, a line now and then in a log file."""

import sys
from typing import Any

from tqdm import tqdm


def bar(total: int, initial: int, label: str, unit: str) -> "tqdm[Any]":
    """Return a bar over ``total`` units of which ``initial`` are done; use it as a context manager."""
    interval = 0.5 if sys.stderr.isatty() else 15.0
    return tqdm(
        total=total,
        initial=initial,
        desc=label,
        unit=unit,
        unit_scale=total > 10_000,
        mininterval=interval,
        smoothing=0.05,
        dynamic_ncols=True,
    )
