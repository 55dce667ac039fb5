"""The standard grader: extraction, exact rules, and math-verify's parser and algebra behind a killable worker."""

from collections.abc import Sequence
from dataclasses import dataclass

from ttsv.records import Verdict
from ttsv.scoring.extract import extract
from ttsv.scoring.judgement import Judgement, UndecidedError, judge_plainly
from ttsv.scoring.workers import Reply, Worker, shared_worker

_MODULE = "ttsv.scoring.judgement"


@dataclass(frozen=True)
class MathVerifyGrader:
    """Grades by the conventions of :mod:`ttsv.scoring`.

    ``timeout_s`` bounds each row that needs algebra (seconds), ``memory_mb`` the worker that does it (MiB).
    ``relative_tolerance`` makes plain numbers equal that differ by at most this share of the gold; leave it None
    unless the task's own convention says so.
    """

    timeout_s: float = 1.5
    memory_mb: int = 1024
    relative_tolerance: float | None = None
    name: str = "math_verify"
    version: int = 3

    def grade(self, golds: Sequence[str], texts: Sequence[str]) -> list[Verdict]:
        """See :class:`ttsv.scoring.base.Grader`."""
        return [self._one(gold, text) for gold, text in zip(golds, texts, strict=True)]

    def _one(self, gold: str, text: str) -> Verdict:
        extraction = extract(text)
        if extraction.answer is None:
            return Verdict(False, None, "no_answer", extraction.why)
        judgement = self.compare(gold, extraction.answer)
        return Verdict(judgement.correct, extraction.answer, judgement.flag, judgement.why)

    def compare(self, gold: str, answer: str) -> Judgement:
        """Judge an answer that is already extracted."""
        try:
            return judge_plainly(gold, answer, self.relative_tolerance)
        except UndecidedError:
            pass
        except RecursionError:
            return Judgement(False, "unparsed", "nested too deeply")
        except Exception as error:  # a fault of ours in one row must not end the run; it is counted as an error
            return Judgement(False, "error", f"{type(error).__name__}: {error}"[:200])
        return _judgement(self._worker().call(_MODULE, "judge_with_algebra", gold, answer, self.relative_tolerance))

    def describe(self, gold: str, answer: str) -> list[str]:
        """Say how the algebra reads both sides, a line each; for ``--explain``."""
        lines = []
        for side, text in (("gold", gold), ("answer", answer)):
            reply = self._worker().call("ttsv.scoring.algebra", "describe", text)
            lines.append(
                f"{side:<10} in algebra: {reply.value if reply.kind == 'value' else f'{reply.kind}, {reply.value}'}"
            )
        return lines

    def _worker(self) -> Worker:
        return shared_worker(self.timeout_s, self.memory_mb, (_MODULE, "ttsv.scoring.algebra"))


def _judgement(reply: Reply) -> Judgement:
    if isinstance(reply.value, Judgement):
        return reply.value
    return Judgement(False, "timeout" if reply.kind == "timeout" else "error", str(reply.value))
