"""The other end of :mod:`ttsv.scoring.workers`: a supervisor that imports once, and a forked child that does the work.

Run as ``python -m ttsv.scoring.worker_process TIMEOUT_S MEMORY_MB MODULE ...``. The supervisor never evaluates
anything, so it always answers; a child that runs too long, outgrows its memory or dies costs one fork, a few
milliseconds.
"""

import contextlib
import ctypes
import importlib
import os
import pickle
import resource
import select
import signal
import struct
import sys
from collections.abc import Sequence
from typing import IO, NoReturn

from ttsv.scoring.workers import Reply, read_frame, write_frame


class Child:
    """A forked process that answers jobs until it is killed."""

    def __init__(self, memory_mb: int, private: Sequence[IO[bytes]]) -> None:
        job_read, job_write = os.pipe()
        reply_read, reply_write = os.pipe()
        self.ended = False
        self.pid = os.fork()
        if self.pid == 0:
            os.close(job_write)
            os.close(reply_read)
            for stream in private:  # or the caller would not see the supervisor die
                stream.close()
            _serve(os.fdopen(job_read, "rb"), os.fdopen(reply_write, "wb"), memory_mb)
        os.close(job_read)
        os.close(reply_write)
        self.jobs, self.replies = os.fdopen(job_write, "wb"), os.fdopen(reply_read, "rb")

    def alive(self) -> bool:
        """Tell whether the child can take a job; reaps one that died while idle."""
        if self.ended or os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            return not self.ended
        self.ended = True
        return False

    def run(self, job: bytes, timeout_s: float) -> Reply:
        """Return the child's reply; after ``timeout`` or ``error`` the child is gone."""
        try:
            write_frame(self.jobs, job)
        except OSError:
            return Reply("error", self.end())
        ready, _, _ = select.select([self.replies], [], [], timeout_s)
        if not ready:
            self.end()
            return Reply("timeout", f"no verdict within {timeout_s:g} s")
        try:
            reply: Reply = pickle.loads(read_frame(self.replies))
        except (EOFError, struct.error):
            return Reply("error", self.end())
        if reply.kind == "error" and reply.value == "memory":
            self.end()
            return Reply("error", "out of memory")
        return reply

    def end(self) -> str:
        """Kill and reap the child; say how it ended."""
        self.ended = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        for stream in (self.jobs, self.replies):
            with contextlib.suppress(OSError):
                stream.close()
        return f"the worker died ({f'signal {os.WTERMSIG(status)}' if os.WIFSIGNALED(status) else 'exit'})"


def _serve(jobs: IO[bytes], replies: IO[bytes], memory_mb: int) -> NoReturn:
    _die_with_parent()
    limit = memory_mb * 2**20
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            job = read_frame(jobs)
        except (EOFError, struct.error):
            os._exit(0)
        write_frame(replies, pickle.dumps(_answer(job)))


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the supervisor dies, even in the middle of a job."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def _answer(job: bytes) -> Reply:
    try:
        module, name, arguments = pickle.loads(job)
        return Reply("value", getattr(importlib.import_module(module), name)(*arguments))
    except MemoryError:
        return Reply("error", "memory")
    except BaseException as error:  # math-verify's own timeout is a BaseException
        return Reply("error", f"{type(error).__name__}: {error}"[:200])


def main(timeout_s: float, memory_mb: int, modules: list[str]) -> None:
    """Serve jobs from standard input until it is closed."""
    jobs, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    for module in modules:
        loaded = importlib.import_module(module)
        if hasattr(loaded, "warm_up"):
            loaded.warm_up()
    write_frame(replies, pickle.dumps(Reply("ready", None)))
    child: Child | None = None
    while True:
        try:
            job = read_frame(jobs)
        except (EOFError, struct.error):
            break
        if child is None or not child.alive():
            child = Child(memory_mb, (jobs, replies))
        reply = child.run(job, timeout_s)
        write_frame(replies, pickle.dumps(reply))
    if child is not None and child.alive():
        child.end()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
