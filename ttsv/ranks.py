"""The processes of one run: the first is the run, the others compute what it hands them and wait for more.

``accelerate launch`` and ``torchrun`` start the same command N times. Only process 0 reads configs, writes stages and checkpoints, and
prints; whatever it has to compute on all of them goes through :func:`call`. With one process a call is a plain function call.
"""

import logging
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from transformers.utils.logging import disable_progress_bar

from ttsv.records import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""How long a process waits for the others: the first may grade, or generate alone, for hours."""

_calling = False


@dataclass(frozen=True)
class Share:
    """Part ``number`` of the ``parts`` equal parts of a piece of work."""

    number: int = 0
    parts: int = 1

    def of(self, items: Sequence[T]) -> list[T]:
        """Return this part of ``items``: every ``parts``-th one, so that parts of sorted items are alike."""
        return list(items[self.number :: self.parts])


WHOLE = Share()


def size() -> int:
    """Return the number of processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def shares() -> list[Share]:
    """Return the shares of a piece of work that all processes do together."""
    return [Share(number, size()) for number in range(size())]


@contextmanager
def joined() -> Iterator[bool]:
    """Join the processes of this run, if a launcher started several, and yield whether this one leads.

    The others answer the leader's calls and come back when it has ended. Each has the card of its number where there is CUDA.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield True
        return
    from accelerate import PartialState

    # gloo also where there are cards: what is sent lies in the host's memory, and who waits should not keep a card busy.
    PartialState(cpu=not torch.cuda.is_available(), backend="gloo", timeout=PATIENCE)
    if dist.get_rank() > 0:
        _serve()
        yield False
        return
    try:
        yield True
    finally:
        # In the middle of a call the others expect no other; they end when they see that this process is gone.
        if not _calling:
            _broadcast(None)
            dist.destroy_process_group()


def call(function: Callable[..., T], arguments: Sequence[Sequence[Any]]) -> list[T]:
    """Have process i compute ``function(*arguments[i])`` and return all results, in order; there may be fewer arguments than processes.

    What goes to other processes is pickled; a language model is pickled as where it was loaded from.

    Raises:
        UserError: if another process has ended.
        Exception: the first that a process raised, once all have finished.
    """
    global _calling
    if size() == 1:
        return [function(*own) for own in arguments]
    job = pickle.dumps((function, [None, *arguments[1:]]))
    try:
        _calling = True
        _broadcast(job)
        own = _attempt(lambda: function(*arguments[0]))
        answers = [own, *_gathered(None)[1:]]
        _calling = False
    except RuntimeError as error:
        raise UserError(
            f"one of the {size()} processes of this run has ended ({error}). What was finished is kept; the same command goes on from there"
        ) from error
    for answer in answers:
        if isinstance(answer, _Failed):
            raise answer.error
    return answers[: len(arguments)]


@dataclass(frozen=True)
class _Failed:
    """What a process raised instead of a result."""

    error: Exception


def _serve() -> None:
    """Answer the leader's calls until it ends."""
    logging.disable(logging.WARNING)  # the leader says the same
    disable_progress_bar()
    try:
        while (job := _broadcast(None)) is not None:
            _gathered(_attempt(lambda job=job: _compute(job)))  # type: ignore[misc]
        dist.destroy_process_group()
    except RuntimeError:
        sys.exit(1)  # the leader is gone, and has said why


def _compute(job: bytes) -> Any:
    function, arguments = pickle.loads(job)
    rank = dist.get_rank()
    return function(*arguments[rank]) if rank < len(arguments) else None


def _attempt(function: Callable[[], Any]) -> Any:
    """Return what the function returns, or what it raised, where it happened noted."""
    try:
        return function()
    except Exception as error:
        if dist.get_rank() > 0:
            error.add_note(f"in process {dist.get_rank()} of {size()}:\n{traceback.format_exc()}")
        return _Failed(error)


def _broadcast(job: bytes | None) -> Any:
    """Return what the leader sends."""
    box = [job]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _gathered(answer: Any) -> list[Any]:
    """Return the answers of all processes to the leader, and nothing to the others."""
    answers: list[Any] = [None] * size() if dist.get_rank() == 0 else []
    dist.gather_object(_sendable(answer), answers or None, dst=0)
    return answers


def _sendable(answer: Any) -> Any:
    """Return an answer that can be pickled: exceptions need not be."""
    try:
        if isinstance(answer, _Failed):
            pickle.loads(pickle.dumps(answer))
        return answer
    except Exception:
        return _Failed(RuntimeError("".join(traceback.format_exception(answer.error))))
