"""The grader protocol: gold answer and completion text in, verdict out."""

from collections.abc import Sequence
from typing import Protocol

from ttsv.records import Verdict


class Grader(Protocol):
    """Grades completions. Implementations are frozen dataclasses: their fields are the grader's whole configuration.

    ``name`` names the rule in tables; ``version`` is raised whenever a verdict may change, so that stale grades are
    not reused.
    """

    @property
    def name(self) -> str:
        """The rule's name in tables."""
        ...

    @property
    def version(self) -> int:
        """The version of its verdicts."""
        ...

    def grade(self, golds: Sequence[str], texts: Sequence[str]) -> list[Verdict]:
        """Return one verdict per (gold, text) pair, in order. Never raises on the content of a text."""
        ...
