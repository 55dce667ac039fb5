"""What a piece of work used: wall-clock and processor time, and memory beyond what was resident before it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ttsv.records import UserError

_PROCESS = Path("/proc/self")


@dataclass
class Usage:
    """Filled when the measured block ends: seconds of the wall clock, of the processor (user and system, all threads), bytes, load."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: int = 0
    load: float = 0.0

    def shared_by(self, parts: int) -> "Usage":
        """Return the usage of one of so many parts of the block: times are divided, memory is not."""
        return replace(self, seconds=self.seconds / parts, cpu_seconds=self.cpu_seconds / parts)


@contextmanager
def measured(device: torch.device, loaded: int) -> Iterator[Usage]:
    """Measure a block, its memory beyond ``loaded`` bytes (see :func:`resident`).

    On CUDA it is the memory of PyTorch's allocator, elsewhere the peak of the resident set, which Linux keeps and resets.

    Raises:
        UserError: without CUDA on a system that has no ``/proc/self/clear_refs``.
    """
    usage = Usage()
    _forget_peak(device)
    began, cpu = time.perf_counter(), time.process_time()
    yield usage
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    usage.seconds, usage.cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    usage.memory, usage.load = _peak(device) - loaded, os.getloadavg()[0]


def resident(device: torch.device) -> int:
    """Return the bytes in use now."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError as error:
        raise UserError(f"the benchmark needs Linux or CUDA to measure memory; {error}. Run it there") from error


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _status(field: str) -> int:
    line = next(line for line in (_PROCESS / "status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
