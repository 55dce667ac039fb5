"""Frozen records that travel between the stages; no behaviour, no imports from the rest of the package."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

FinishReason = Literal["stop", "length"]
Flag = Literal["ok", "no_answer", "unparsed", "timeout", "error"]


class UserError(Exception):
    """A problem the user can mend: the message says what was got, what was expected and what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its gold answer, as a task yields it.

    ``id`` is unique within the task; ``gold`` is the answer alone (no solution, no ``\\boxed``), never empty.
    """

    id: str
    question: str
    gold: str
    task: str
    subject: str | None = None
    level: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """The exact text given to the model for one problem, and its token ids."""

    problem_id: str
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote for one prompt.

    ``token_ids`` ends with the end token if the row stopped by itself (``finish_reason == "stop"``); ``text`` leaves the
    end token out. ``mean_entropy`` is the mean over the generated tokens of the entropy, in nats, of the model's next-token
    distribution at temperature 1.
    """

    problem_id: str
    sample: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    mean_entropy: float

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Return what was written as JSON, where tuples are lists."""
        return cls(**{**plain, "token_ids": tuple(plain["token_ids"])})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a grader says of one completion.

    ``answer`` is the extracted answer text or None. ``flag`` tells how the verdict came about: ``ok`` (an answer was
    compared), ``no_answer`` (nothing to compare), ``unparsed`` (an answer that is not an expression), ``timeout`` and
    ``error`` (no verdict was reached; ``correct`` is False and the row is counted separately). ``why`` is a short reason.
    """

    correct: bool
    answer: str | None
    flag: Flag
    why: str
