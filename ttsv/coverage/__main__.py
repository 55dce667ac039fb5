"""Entry point: simulate data sets of known truth, and write ``interval_coverage.md`` and ``verdict_rules.md``."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ttsv.coverage import intervals, verdicts
from ttsv.coverage.pages import interval_page, verdict_page
from ttsv.store import write_atomically

SEED = 2512


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages asked for."""
    parser = argparse.ArgumentParser(prog="python -m ttsv.coverage", description=(__doc__ or "").split(": ", 1)[1])
    parser.add_argument("--pages", nargs="+", choices=("intervals", "verdicts"), default=["intervals", "verdicts"])
    parser.add_argument("--datasets", type=int, default=20_000, help="data sets per truth and size (default: 20000)")
    parser.add_argument("--verdict-datasets", type=int, default=1_000, help="the same for verdicts (default: 1000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: the number of cores)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    chosen = parser.parse_args(arguments)
    command = " ".join(["python -m ttsv.coverage", *(sys.argv[1:] if arguments is None else arguments)])
    plan: dict[str, tuple[ModuleType, int, Callable[..., str], str]] = {
        "intervals": (intervals, chosen.datasets, interval_page, "interval_coverage.md"),
        "verdicts": (verdicts, chosen.verdict_datasets, verdict_page, "verdict_rules.md"),
    }
    chosen.results.mkdir(parents=True, exist_ok=True)
    for name in chosen.pages:
        module, datasets, page, file = plan[name]
        start = time.monotonic()
        rows = simulate_all(module, datasets, chosen.jobs)
        spent = f"{(time.monotonic() - start) / 60:.0f} minutes in {chosen.jobs} processes on {_machine()}"
        write_atomically(chosen.results / file, page(rows, datasets, f"`{command}`, seed {SEED}, {spent}"))
        print(chosen.results / file)
    return 0


def simulate_all(module: ModuleType, datasets: int, jobs: int) -> list[Any]:
    """Return the results of a module's simulations in their order, which do not depend on the number of processes."""
    places = range(len(list(module.simulations())))
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(partial(_simulate, module.__name__, datasets), places))


def _simulate(module: str, datasets: int, place: int) -> Any:
    simulation = list(sys.modules[module].simulations())[place]
    return simulation(np.random.default_rng([SEED, place]), datasets)


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return f"{os.cpu_count()} cores" + (f" of an {names[0]}" if names else "")


if __name__ == "__main__":
    sys.exit(main())
