"""Rules that turn a data set's answer field into the gold answer alone."""

import re
from collections.abc import Callable
from typing import Literal, get_args

GoldRule = Literal["field", "whole_number", "last_box", "first_of_list", "after_hashes"]

_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_UNESCAPED_DOLLAR = re.compile(r"(?<!\\)\$")
_DEGREES = re.compile(r"\s*\^\s*(\\circ|\{\s*\\circ\s*\})$")
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")


def gold_answer(value: object, rule: GoldRule) -> str:
    """The gold answer in ``value`` under ``rule``, stripped; raises ``ValueError`` (got what, expected what)."""
    if rule not in get_args(GoldRule):
        raise ValueError(f"unknown gold rule {rule!r}; known: {', '.join(get_args(GoldRule))}")
    return _RULES[rule](value).strip()


def as_text(value: object) -> str:
    """A JSON string as it is, or a JSON number as one would write it (``27.0`` is ``27``); else ``ValueError``."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected text or a number, got {type(value).__name__}: {value!r:.80}")
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"expected text or a finite number, got {value!r}")
        # Booklets of whole-number answers reach JSON as floats.
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value)


def last_box(text: str) -> str | None:
    """Content of the last ``\\boxed{...}`` (or ``\\fbox``) with balanced braces, or None; ``\\{`` does not count."""
    for start in reversed([match.end() for match in _BOX.finditer(text)]):
        depth, position = 1, start
        while position < len(text):
            if text[position] == "\\":
                position += 1
            elif text[position] in "{}":
                depth += 1 if text[position] == "{" else -1
                if depth == 0:
                    return text[start:position]
            position += 1
    return None


def _whole_number(value: object) -> str:
    # Copies of AIME 2025 write one answer, an angle, as 336^\circ; what is asked for is the number.
    text = _DEGREES.sub("", as_text(value).strip())
    if not re.fullmatch(r"[+-]?\d+(\.0*)?", text):
        raise ValueError(f"expected a whole number, got {text!r:.80}")
    return text.partition(".")[0]


def _in_last_box(value: object) -> str:
    content = last_box(as_text(value))
    if content is None:
        raise ValueError(r"no \boxed{...} with balanced braces in it")
    # One solution of Minerva Math closes and reopens its mathematics inside the box ("...+$ $...").
    return _UNESCAPED_DOLLAR.sub("", content)


def _first_of_list(value: object) -> str:
    if not isinstance(value, list) or not value:
        raise ValueError(f"expected a list with at least one answer, got {value!r:.80}")
    # OlympiadBench marks mathematics inside one answer ("$69$,$84$"): the dollars, and a full stop after the last one,
    # are typography. The released parser drops them as well.
    return _UNESCAPED_DOLLAR.sub("", as_text(value[0])).strip().removesuffix(".")


def _after_hashes(value: object) -> str:
    _, marker, answer = as_text(value).rpartition("####")
    if not marker:
        raise ValueError("expected '#### <answer>' at its end")
    return _THOUSANDS_COMMA.sub("", answer.strip())


_RULES: dict[GoldRule, Callable[[object], str]] = {
    "field": as_text,
    "whole_number": _whole_number,
    "last_box": _in_last_box,
    "first_of_list": _first_of_list,
    "after_hashes": _after_hashes,
}
