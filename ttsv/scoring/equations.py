"""What an equation answers: the value it states for a name or a quantity, if it states one."""

import re

from ttsv.scoring.normalize import compact
from ttsv.scoring.quantity import read_number
from ttsv.scoring.shape import Equation

_NAME = re.compile(
    r"(?:[A-Za-z]|\\(?!frac|sqrt|sum|int|pi)[A-Za-z]+)(?:\{\w+\})?'*(?:_(?:\{[^{}]*\}|\w))?'*(?:\((?:[A-Za-z]|\\[a-z]+|-?\d+)(?:,[A-Za-z0-9]+)*\))?"
)
_ANGLE = re.compile(r"\\angle.*|m\\angle.*|\\overline\{[A-Z]+\}|\|?[A-Z]{2,}\|?|[A-Z](?:[A-Z]|_\{?\d\}?)+")


def is_name(side: str) -> bool:
    """Tell whether a side names something: a variable, ``f(x)``, an angle, words."""
    plain = compact(side)
    return _NAME.fullmatch(plain) is not None or _ANGLE.fullmatch(plain) is not None or r"\text" in side


def _is_zero(side: str) -> bool:
    return read_number(side) == 0


def stated_value(equation: Equation) -> str | None:
    """Return the value an equation states for a name or a quantity; None for one that is still to be solved."""
    first, last = equation.sides[0], equation.sides[-1]
    if is_name(last) and not is_name(first):
        return first
    if is_name(first) or not _to_be_solved(first, last):
        return last
    return None


def _to_be_solved(first: str, last: str) -> bool:
    """``2x = 5`` asks for x; ``a + b = 5``, ``f(2) = 5`` and ``2 + 3 = 5`` state a value."""
    plain = re.sub(r"\\[A-Za-z]+", " ", first)
    names = set(re.findall(r"[A-Za-z]", plain))
    called = re.search(r"[A-Za-z]'?\(|\\(?:sin|cos|tan|log|ln|angle|text|lfloor|lceil)", compact(first)) is not None
    return _is_zero(last) or (len(names) == 1 and not called and not is_name(first))
