"""What the comparison of forms asks of an algebra, and the part of it that needs none."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

from ttsv.scoring.expression import rewrite
from ttsv.scoring.normalize import compact
from ttsv.scoring.quantity import read_number
from ttsv.scoring.vocabulary import Symbols

Infinity = float


class UndecidedError(Exception):
    """The question needs algebra: it is handed to a worker."""


class Scalars(Protocol):
    """Decides about single expressions. Methods raise ``UnreadableError`` where a text is not an expression."""

    def equal(self, gold: str, answer: str) -> bool:
        """Tell whether two expressions are equal wherever both are defined."""
        ...

    def same_equation(self, gold: tuple[str, str], answer: tuple[str, str]) -> int:
        """Return the sign of the constant c with ``left - right = c (left' - right')``, or 0 if there is none."""
        ...

    def order(self, values: Sequence[str]) -> list[int]:
        """Return the rank of each real constant (equal values share a rank); infinities allowed."""
        ...


class PlainScalars:
    """Decides what exact arithmetic and spelling decide; raises :class:`UndecidedError` for the rest."""

    def equal(self, gold: str, answer: str) -> bool:
        """See :class:`Scalars`."""
        if compact(gold) == compact(answer):
            return True
        rewrite(answer, Symbols())  # what cannot even be written out is unreadable, and needs no worker to say so
        raise UndecidedError

    def same_equation(self, gold: tuple[str, str], answer: tuple[str, str]) -> int:
        """See :class:`Scalars`."""
        if tuple(map(compact, gold)) == tuple(map(compact, answer)):
            return 1
        raise UndecidedError

    def order(self, values: Sequence[str]) -> list[int]:
        """See :class:`Scalars`."""
        numbers = [_extended(value) for value in values]
        ranks = sorted(set(numbers))
        return [ranks.index(number) for number in numbers]


def _extended(text: str) -> Fraction | Infinity:
    plain = compact(text)
    if plain in (r"\infty", r"+\infty"):
        return float("inf")
    if plain == r"-\infty":
        return float("-inf")
    number = read_number(text)
    if number is None:
        raise UndecidedError
    return number
