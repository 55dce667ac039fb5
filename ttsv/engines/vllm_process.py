"""vLLM in processes of its own, one per replica, kept until another model is asked for or this process ends."""

import atexit
import contextlib
import json
import logging
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NoReturn

from ttsv.records import UserError

log = logging.getLogger(__name__)

ENVIRONMENT = {
    # Batches that do not depend on how fast requests arrive, and one process less.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The runner that a CPU uses as well, whose logits processors vllm_sampling.py is written for.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
LOG_LINES = 25
"""The end of a dead process's log that an error shows."""

CLOSE_S = 20.0
"""Seconds in which a process may end by itself."""


class Process:
    """One running ``ttsv.engines.vllm_worker``; its protocol stands there."""

    def __init__(self, python: str, arguments: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self.connection, theirs = Pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the process lives
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [python, "-m", "ttsv.engines.vllm_worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            env={**os.environ, **ENVIRONMENT, **environment, "PYTHONPATH": path},
            start_new_session=True,  # an interrupt of the terminal is for this process to handle
        )
        theirs.close()
        self.send(json.dumps(dict(arguments)).encode())

    def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            UserError: with the end of its log, if the process has died.
        """
        try:
            self.connection.send_bytes(message)
        except OSError:
            self._died()

    def receive(self) -> Any:
        """Wait for an answer and return it, parsed; raises as :meth:`send`."""
        try:
            return json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self._died()

    def close(self) -> None:
        """End the process and all that it started."""
        self.connection.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()

    def _died(self) -> NoReturn:
        status = self._process.wait(CLOSE_S)
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()[-LOG_LINES:]
        raise UserError("\n".join([f"the process of vLLM ended with status {status}; the end of its log:", *lines]))


@dataclass(frozen=True)
class Replicas:
    """Processes that hold the same model: ``asked`` is what they were started with, ``length`` the longest row they can hold."""

    asked: str
    length: int
    processes: list[Process]
    facts: dict[str, Any]


_running: list[Replicas] = []


def replicas(
    python: str, arguments: Mapping[str, Any], environments: Sequence[Mapping[str, str]], length: int, device: str
) -> list[Process]:
    """Return a process per environment that holds the model; at most one set of them runs, the last asked for.

    Raises:
        UserError: if one dies while it loads, or computes on another kind of device than ``device``.
    """
    asked = json.dumps([os.getpid(), python, dict(arguments), [dict(e) for e in environments]], sort_keys=True)
    if _running and _running[0].asked == asked and _running[0].length >= length:
        return _running[0].processes
    close_replicas()
    log.info("starting vLLM for rows of up to %d tokens", length)
    started = [Process(python, {**arguments, "max_model_len": length}, environment) for environment in environments]
    _running.append(Replicas(asked, length, started, {}))
    try:
        for process in started:
            _running[0].facts.update(process.receive())
    except BaseException:
        close_replicas()
        raise
    if _running[0].facts["device"] != device:
        found = _running[0].facts["device"]
        close_replicas()
        raise UserError(
            f"the vLLM of {python} computes on {found}, and this run is for {device}; choose engine.python or device"
        )
    return started


def facts() -> dict[str, Any]:
    """Return what the running processes said of themselves: versions and device; nothing where none runs."""
    return dict(_running[0].facts) if _running else {}


@atexit.register
def close_replicas() -> None:
    """End all processes of vLLM that were started here."""
    while _running:
        for process in _running.pop().processes:
            process.close()
