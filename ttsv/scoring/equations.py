"""What an equation answers: the value it states for a name or a quantity, if it states one."""

import re

from ttsv.scoring.normalize import compact
from ttsv.scoring.quantity import read_number
from ttsv.scoring.shape import Equation

_NAME = re.compile(
    r"(?:[A-Za-z]|\\(?!frac|sqrt|sum|int|pi)[A-Za-z]+)(?:\{\w+\})?'*(?:_(?:\{[^{}]*\}|\w))?'*(?:\((?:[A-Za-z]|\\[a-z]+|-?\d+)(?:,[A-Za-z0-9]+)*\))?"
)
_DERIVATIVE = re.compile(r"\\frac\{d(?:\^\{?\d\}?)?\\?[A-Za-z_{}0-9]+\}\{d\\?[a-z]+(?:\^\{?\d\}?)?\}")
_ANGLE = re.compile(r"\\angle.*|m\\angle.*|\\overline\{[A-Z]+\}|\|?[A-Z]{2,}\|?|[A-Z](?:[A-Z]|_\{?\d\}?)+")


def is_name(side: str) -> bool:
    """Tell whether a side names something: a variable, ``f(x)``, an angle, words."""
    plain = compact(side)
    if plain.startswith("(") and plain.endswith(")"):
        return "," in plain and all(is_name(part) for part in plain[1:-1].split(","))
    return any(form.fullmatch(plain) for form in (_NAME, _ANGLE, _DERIVATIVE)) or r"\text" in side


def same_name(gold: str, answer: str) -> bool:
    r"""Tell whether two sides name the same thing; ``m`` may stand for ``m_{\max}``."""
    left, right = compact(gold), compact(answer)
    return left == right or (left.partition("_")[0] == right.partition("_")[0] and ("_" in left) != ("_" in right))


_FUNCTION_OF = re.compile(r"(?P<function>[A-Za-z])\((?P<letter>[A-Za-z])\)")


def in_the_letters_of(gold: Equation, answer: Equation) -> Equation:
    r"""Rename what is only a letter's name: ``f(n) = 2n`` beside ``f(x) = 2x``; capitals in ``\text`` are letters."""
    answer = Equation(tuple(re.sub(r"\\text\s*\{\s*([A-Z]+)\s*\}", r"\1", side) for side in answer.sides))
    expected, given = (_FUNCTION_OF.fullmatch(compact(equation.sides[0])) for equation in (gold, answer))
    if expected is None or given is None or expected["function"] != given["function"]:
        return answer
    old, new = given["letter"], expected["letter"]
    parts = [re.split(r"(\\[A-Za-z]+)", side) for side in answer.sides]
    if old == new or any(new in text for side in parts for text in side[::2]):
        return answer
    renamed = ([part if part.startswith("\\") else part.replace(old, new) for part in side] for side in parts)
    return Equation(tuple(map("".join, renamed)))


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
