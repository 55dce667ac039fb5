"""Sizes that are refused before any parser or algebra sees them, so that hostile text costs nothing."""

import math
import re

from ttsv.scoring.normalize import UnreadableError, compact

MAX_DIGITS = 1500
MAX_LOG10 = 40_000.0
MAX_BARS = 16
MAX_FACTORIAL = 10_000

_TOWER = re.compile(r"(?:\d+|e|\))(?:\^[{(]*(?:\d+|e(?![A-Za-z])))+")
_NUMBERS = re.compile(r"\d+|e")
_FACTORIAL = re.compile(r"(?P<digits>\d+)[)}]*!|\d\^[{(]*(?P<power>\d+)[)}]*!|(?P<chain>!!!)")


def refuse_oversized(text: str) -> None:
    """Raise :class:`UnreadableError` for numbers that nobody writes as an answer and no algebra should expand.

    These are runs of more than 1500 digits, powers beyond 10^40000, factorials of more than 10 000, triple factorial
    signs.
    """
    plain = compact(text)
    if re.search(rf"\d{{{MAX_DIGITS + 1}}}", plain):
        raise UnreadableError(f"a number of more than {MAX_DIGITS} digits")
    if plain.count("|") > MAX_BARS:
        raise UnreadableError(f"more than {MAX_BARS} absolute-value bars")
    if re.search(r"\d[eE][+-]?\d{5,}", plain):
        raise UnreadableError("an exponent too large to evaluate")
    for match in _TOWER.finditer(plain):
        if _log10_of_tower([3 if part == "e" else int(part[:18]) for part in _NUMBERS.findall(match[0])]) > MAX_LOG10:
            raise UnreadableError("a power too large to evaluate")
    for match in _FACTORIAL.finditer(plain):
        if match["chain"] or match["power"] or len(match["digits"]) > 5 or int(match["digits"]) > MAX_FACTORIAL:
            raise UnreadableError("a factorial too large to evaluate")


def _log10_of_tower(numbers: list[int]) -> float:
    """Bound the decimal logarithm of ``a^(b^(c^...))`` from above, or return infinity."""
    exponent = 1.0
    for number in reversed(numbers[1:]):
        if number == 0:
            exponent = 1.0
            continue
        size = exponent * math.log10(number)
        if size > 12:
            return math.inf
        exponent = 10.0**size
    return exponent * max(math.log10(numbers[0]) if numbers and numbers[0] > 1 else 0.0, 0.5)
