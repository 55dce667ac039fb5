"""A killable worker process: bounded in time and memory, replaced when it dies, usable from any thread or process.

No signals and no ``multiprocessing`` are used in the caller, so it works off the main thread, inside daemonic workers
and without a ``__main__`` guard.
"""

import atexit
import contextlib
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

START_S = 60.0
GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a job: ``value`` (what it returned), ``timeout`` or ``error`` (``value`` is then the reason)."""

    kind: Literal["ready", "value", "timeout", "error"]
    value: Any


def write_frame(stream: IO[bytes], payload: bytes) -> None:
    """Write a length and that many bytes."""
    stream.write(struct.pack("!I", len(payload)) + payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes:
    """Read what :func:`write_frame` wrote; raises EOFError or struct.error at the end of the stream."""
    (length,) = struct.unpack("!I", stream.read(4))
    payload = stream.read(length)
    if len(payload) < length:
        raise EOFError
    return payload


class Worker:
    """One worker process, started at the first call.

    ``timeout_s`` bounds each job in seconds, ``memory_mb`` the worker's address space in MiB; ``modules`` are
    imported when it starts, outside the time limit.
    """

    def __init__(self, timeout_s: float, memory_mb: int, modules: tuple[str, ...]) -> None:
        self.timeout_s, self.memory_mb, self.modules = timeout_s, memory_mb, modules
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._lock = threading.Lock()

    def call(self, module: str, name: str, *arguments: object) -> Reply:
        """Run ``module.name(*arguments)`` in the worker. Never raises for what the function does."""
        job = pickle.dumps((module, name, arguments))
        with self._lock:
            for _ in range(2):  # a worker that died while idle is replaced without loss
                if not self._start():
                    return Reply("error", "the worker did not start")
                assert self._process is not None
                assert self._process.stdin is not None
                try:
                    write_frame(self._process.stdin, job)
                except OSError:
                    self._end()
                    continue
                return self._receive(self.timeout_s + GRACE_S)
        return Reply("error", "the worker died before it took the job")

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _spawn(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [
            sys.executable,
            "-m",
            "ttsv.scoring.worker_process",
            str(self.timeout_s),
            str(self.memory_mb),
            *self.modules,
        ]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )

    def _start(self) -> bool:
        self._spawn()
        if not self._ready:
            self._ready = self._receive(START_S).kind == "ready"
        return self._ready

    def _receive(self, limit_s: float) -> Reply:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + limit_s
        stream = self._process.stdout
        ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            self._end()
            return Reply("timeout", f"the worker gave no sign within {limit_s:g} s")
        try:
            reply: Reply = pickle.loads(read_frame(stream))
        except (EOFError, struct.error, pickle.UnpicklingError):
            self._end()
            return Reply("error", "the worker died")
        return reply

    def _end(self) -> None:
        process, self._process, self._ready = self._process, None, False
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_workers: dict[tuple[int, float, int, tuple[str, ...]], Worker] = {}
_workers_lock = threading.Lock()


def shared_worker(timeout_s: float, memory_mb: int, modules: tuple[str, ...]) -> Worker:
    """Return this process's worker with these limits; it lives until the process ends."""
    key = (os.getpid(), timeout_s, memory_mb, modules)
    with _workers_lock:
        if key not in _workers:
            _workers[key] = Worker(timeout_s, memory_mb, modules)
        return _workers[key]


@atexit.register
def close_workers() -> None:
    """End this process's workers; the next call starts new ones."""
    with _workers_lock:
        mine = [_workers.pop(key) for key in list(_workers) if key[0] == os.getpid()]
    for worker in mine:
        worker.close()
