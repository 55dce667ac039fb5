"""The release's rule beside ours: what its evaluation does, in our own writing, for comparison with its verdicts.

Behaviour after METHOD section 2 and the released verdicts: last box, phrase or last number; x100 and /100 accepted;
numbers within a relative 1e-4; bracket kinds ignored in tuples; lists without brackets only in the order written.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ttsv.records import Verdict
from ttsv.scoring.bounds import refuse_oversized
from ttsv.scoring.normalize import UnreadableError, normalize
from ttsv.scoring.release_text import MAX_LENGTH, release_answer, rewritten
from ttsv.scoring.workers import shared_worker

_MODULE = "ttsv.scoring.release_grader"


class _StoppedError(Exception):
    """The worker reached no verdict; carries the flag and the reason."""


@dataclass(frozen=True)
class ReleaseGrader:
    """Grades as the released evaluation does; ``timeout_s`` (seconds) and ``memory_mb`` (MiB) bound its worker."""

    timeout_s: float = 1.5
    memory_mb: int = 1024
    name: str = "release"
    version: int = 3

    def grade(self, golds: Sequence[str], texts: Sequence[str]) -> list[Verdict]:
        """See :class:`ttsv.scoring.base.Grader`."""
        return [self._one(gold, text) for gold, text in zip(golds, texts, strict=True)]

    def _one(self, gold: str, text: str) -> Verdict:
        answer = release_answer(text)
        if answer is None:
            return Verdict(False, None, "no_answer", "no phrase, box or number")
        if len(answer) > MAX_LENGTH:
            return Verdict(False, answer[:200], "unparsed", f"longer than {MAX_LENGTH} characters")
        try:
            correct = self._equal(answer, rewritten(gold))
        except _StoppedError as stop:
            return Verdict(False, answer, *stop.args)
        except (UnreadableError, RecursionError) as error:
            return Verdict(False, answer, "unparsed", str(error)[:200])
        except Exception as error:  # a fault of ours in one row must not end the run; it is counted as an error
            return Verdict(False, answer, "error", f"{type(error).__name__}: {error}"[:200])
        return Verdict(
            correct, answer, "ok", "equal by the release's rule" if correct else "not equal by the release's rule"
        )

    def _equal(self, answer: str, gold: str) -> bool:
        if answer.lower().strip() == gold.lower().strip():
            return True
        if gold in ("A", "B", "C", "D", "E") and _choice(answer) == gold:
            return True
        numbers = _number(answer), _number(gold)
        if numbers[0] is not None and numbers[1] is not None:
            return any(math.isclose(numbers[0], factor * numbers[1], rel_tol=1e-4) for factor in (1, 0.01, 100))
        return self._structured(answer, gold)

    def _structured(self, answer: str, gold: str) -> bool:
        if _bare(answer) == _bare(gold):
            return True
        parts, expected = _parts(answer), _parts(gold)
        if parts is not None and expected is not None and len(parts) == len(expected):
            return all(self._equal(a, g) for a, g in zip(parts, expected, strict=True))
        cells, expected = _cells(answer), _cells(gold)
        if cells is not None and expected is not None:
            return len(cells) == len(expected) and all(self._equal(a, g) for a, g in zip(cells, expected, strict=True))
        return self._equations(answer, gold)

    def _equations(self, answer: str, gold: str) -> bool:
        sides, expected = answer.split("="), gold.split("=")
        if len(sides) == len(expected) == 2:
            left, right = (f"{first}-({last})" for first, last in (sides, expected))
            return self._symbolic(left, right) or self._symbolic(f"-({left})", right)
        if len(sides) == 2 and len(sides[0]) <= 2 and len(expected) == 1:
            return self._equal(sides[1], gold)
        if len(expected) == 2 and len(expected[0]) <= 2 and len(sides) == 1:
            return self._equal(answer, expected[1])
        return self._symbolic(answer, gold)

    def _symbolic(self, answer: str, gold: str) -> bool:
        refuse_oversized(answer)
        worker = shared_worker(self.timeout_s, self.memory_mb, ("ttsv.scoring.judgement", "ttsv.scoring.algebra"))
        reply = worker.call(_MODULE, "symbolically_equal", answer, gold)
        if reply.kind != "value":
            raise _StoppedError(reply.kind, str(reply.value))
        return bool(reply.value)


def symbolically_equal(answer: str, gold: str) -> bool:
    """Tell whether two texts parse to equal expressions, constants within a relative 1e-4; only a worker calls this."""
    from ttsv.scoring.algebra import Algebra

    try:
        return Algebra(relative_tolerance=1e-4).equal(normalize(gold), normalize(answer))
    except (UnreadableError, ArithmeticError, RecursionError):
        return False


def _choice(answer: str) -> str:
    letters = re.findall(r"\b([A-E])\b", answer.strip("\n ").rstrip(".").rstrip("/").upper())
    return letters[-1] if letters else answer


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except (ValueError, OverflowError):
        return None


def _bare(text: str) -> str:
    if re.fullmatch(r"[\[(].*[\])]", text):
        text = text.strip("[]()")
    return re.sub(r"[{}()]", "", text).lower()


def _parts(text: str) -> list[str] | None:
    return text[1:-1].split(",") if re.fullmatch(r"[(\[].+[)\]]", text) else None


def _cells(text: str) -> list[str] | None:
    match = re.fullmatch(r"\(?\\begin\{pmatrix\}(.*)\\end\{pmatrix\}\)?", text)
    return [cell for row in match[1].split(r"\\") for cell in row.split("&")] if match else None
