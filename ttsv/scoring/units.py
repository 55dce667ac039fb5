"""Units of measure: which are the same, which can be turned into one another, which cannot."""

import re
from dataclasses import dataclass
from fractions import Fraction

_METRES = {
    "mm": "1/1000", "cm": "1/100", "dm": "1/10", "m": "1", "km": "1000", "in": "127/5000", "ft": "381/1250",
    "yd": "1143/1250", "mi": "201168/125",
}  # fmt: skip
_SECONDS = {"ms": "1/1000", "s": "1", "min": "60", "h": "3600", "day": "86400", "week": "604800"}
_GRAMS = {"mg": "1/1000", "g": "1", "kg": "1000", "oz": "45359237/1600000", "lb": "45359237/100000"}
_LITRES = {"ml": "1/1000000", "l": "1/1000"}  # in cubic metres
_MONEY = {"cent": "1/100", "dollar": "1"}
_OTHER = {
    "J": "1", "W": "1", "N": "1", "Pa": "1", "K": "1", "Hz": "1", "V": "1", "ohm": "1", "mol": "1", "eV": "1",
    "year": "1", "month": "1", "euro": "1", "pound sterling": "1", "yen": "1", "rupee": "1", "radian": "1",
}  # fmt: skip
_NAMES = {
    "millimeter": "mm", "millimetre": "mm", "centimeter": "cm", "centimetre": "cm", "decimeter": "dm",
    "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km", "inch": "in", "inches": "in", "foot": "ft",
    "feet": "ft", "yard": "yd", "mile": "mi", "millisecond": "ms", "second": "s", "sec": "s", "minute": "min",
    "hour": "h", "hr": "h", "milligram": "mg", "gram": "g", "kilogram": "kg", "ounce": "oz", "pound": "lb",
    "lbs": "lb", "milliliter": "ml", "millilitre": "ml", "mL": "ml", "liter": "l", "litre": "l", "L": "l",
    "usd": "dollar", "joule": "J", "watt": "W", "newton": "N", "pascal": "Pa", "kelvin": "K", "hertz": "Hz",
    "volt": "V", "mole": "mol", "electronvolt": "eV", "yr": "year", "¢": "cent", "rad": "radian", "buck": "dollar",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as dimension (base unit -> power), factor to the base units, and the words it was written in.

    ``known`` is False for words such as "apples", which are never in conflict with anything.
    """

    dimension: tuple[tuple[str, int], ...]
    factor: Fraction
    words: str
    known: bool


def _table() -> dict[str, tuple[str, int, Fraction]]:
    table: dict[str, tuple[str, int, Fraction]] = {}
    for base, power, units in (
        ("m", 1, _METRES),
        ("s", 1, _SECONDS),
        ("g", 1, _GRAMS),
        ("m", 3, _LITRES),
        ("dollar", 1, _MONEY),
    ):
        table.update({name: (base, power, Fraction(factor)) for name, factor in units.items()})
    table.update({name: (name, 1, Fraction(factor)) for name, factor in _OTHER.items()})
    return table


_TABLE = _table()
_TOKEN = re.compile(r"(?P<name>[A-Za-z¢]+)\s*(?:\^\s*\{?\s*(?P<power>-?\d)\s*\}?)?|(?P<slash>/)|(?P<other>\S)")
_WORD_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}


def read_unit(text: str) -> Unit | None:
    r"""Read ``\text{ cm}^2``, ``square inches``, ``m/s``, ``miles per hour``; None for an empty text."""
    words = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
    words = re.sub(r"\\(?:cdot|times)|[{}]|\\", lambda m: m[0] if m[0] in "{}" else " ", words).strip(" .")
    if not re.search(r"[A-Za-z¢€£¥₹]", words):
        return None
    words = re.sub(r"\bmph\b", "mi/h", words)
    words = re.sub(r"\bpound sterling\b", "poundsterling", words)
    return _known(words) or Unit((), Fraction(1), words.lower(), known=False)


def _known(words: str) -> Unit | None:
    powers: dict[str, int] = {}
    factor = Fraction(1)
    sign, pending, after_slash = 1, 1, False
    for match in _TOKEN.finditer(words):
        if match["slash"] or (match["name"] or "").lower() in ("per", "a", "an"):
            sign, after_slash = -1, True
            continue
        if match["name"] and match["name"].lower() in _WORD_POWERS:
            pending = _WORD_POWERS[match["name"].lower()]
            continue
        if match["name"] and match["name"].lower() == "squared":
            return None
        entry = _lookup(match["name"]) if match["name"] else None
        if entry is None:
            return None
        base, power, scale = entry
        exponent = sign * pending * int(match["power"] or 1)
        powers[base] = powers.get(base, 0) + power * exponent
        factor *= scale**exponent
        pending = 1
    if not powers or (after_slash and pending != 1):
        return None
    return Unit(tuple(sorted((b, p) for b, p in powers.items() if p)), factor, words.lower(), known=True)


def _lookup(name: str) -> tuple[str, int, Fraction] | None:
    if name == "poundsterling":
        return _TABLE["pound sterling"]
    lower = name.lower()
    for candidate in (name, lower, lower.removesuffix("s"), lower.removesuffix("es")):
        found = _TABLE.get(_NAMES.get(candidate, candidate))
        if found is not None:
            return found
    return None
