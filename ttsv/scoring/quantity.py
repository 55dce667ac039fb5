r"""Plain quantities: exact numbers in every usual spelling, with percent sign, degree, currency, unit and base."""

import re
from dataclasses import dataclass
from fractions import Fraction

from ttsv.scoring.units import Unit, read_unit

MAX_DIGITS = 1500
MAX_EXPONENT = 5000
MAX_UNIT_WORDS = 12

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_POWER = r"10\s*(?:\^|\*\*)\s*(?:\{\s*(?P<e1>[+-]?\d+)\s*\}|(?P<e2>[+-]?\d+)|\(\s*(?P<e3>[+-]?\d+)\s*\))"
_PLAIN = re.compile(rf"(?P<m>{_DECIMAL})")
_E_NOTATION = re.compile(rf"(?P<m>{_DECIMAL})\s?[eE]\s?(?P<e>[+-]?\d+)")
_SCIENTIFIC = re.compile(rf"(?:(?P<m>{_DECIMAL})\s*(?:\\times|\\cdot|\*|x|X)\s*)?{_POWER}")
_FRACTION = re.compile(
    rf"\\frac\{{\s*(?P<n1>-?{_DECIMAL})\s*\}}\{{\s*(?P<d1>-?{_DECIMAL})\s*\}}|(?P<n2>{_DECIMAL})\s*/\s*(?P<d2>-?{_DECIMAL})"
)
_MIXED = re.compile(
    r"(?P<w>\d+)(?:\s*\\frac\{\s*(?P<n1>\d+)\s*\}\{\s*(?P<d1>\d+)\s*\}|\s+(?P<n2>\d+)\s*/\s*(?P<d2>\d+))"
)
_REPEATING = re.compile(
    r"(?P<whole>\d*)\.(?P<once>\d*)\\(?:overline|bar|dot)\s*(?:\{\s*(?P<rep>\d+)\s*\}|(?P<rep1>\d))"
)
_ELLIPSIS = re.compile(r"(?P<whole>\d*)\.(?P<once>\d*?)(?P<rep>\d+?)(?P=rep)+(?:\.{2,3}|\\(?:l|c)?dots)\s*")
_SIGN = re.compile(r"\s*(?P<sign>[+-]?)\s*")
_BASE = re.compile(
    r"\(?(?P<digits>[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)?)\)?\s*_\s*(?:\{\s*\(?\s*(?:\\text\{\s*)?(?P<b1>\w+)\s*\}?\s*\)?\s*\}|(?P<b2>\d+)|\\text\{\s*(?P<b3>\w+)\s*\})"
)
_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = [
    "ten",
    "eleven",
    "twelve",
    *(f"{stem}teen" for stem in ("thir", "four", "fif", "six", "seven", "eigh", "nine")),
]
_TENS = [f"{stem}ty" for stem in ("twen", "thir", "for", "fif", "six", "seven", "eigh", "nine")]
NUMBER_WORDS = {word: value for value, word in enumerate([*_UNITS, *_TEENS])} | {
    f"{tens}-{unit}".removesuffix("-zero"): 10 * ten + one
    for ten, tens in enumerate(_TENS, 2)
    for one, unit in enumerate(_UNITS)
}
"""The numbers below 100 in words."""
_BASE_SUFFIX = re.compile(
    r"\s*(?:_\s*)?(?:\\text\s*\{|[{(])[ ({]*(?:\\text\s*\{)?\s*(?:in )?base[ -]?(?:\}\s*)?(\w+)[ )}]*$"
)
_MODULUS = re.compile(r"(?P<value>[^,]+?)\\bmod\s*(?:\{\s*(?P<m1>[1-9]\d{0,17})\s*\}|(?P<m2>[1-9]\d{0,17}))")
_CURRENCY = {
    "\\$": "dollar",
    "€": "euro",
    "£": "pound sterling",
    "¥": "yen",
    "₹": "rupee",
    "\\pounds": "pound sterling",
    "\\euro": "euro",
}


@dataclass(frozen=True, slots=True)
class Quantity:
    r"""An expression and what is attached to it: ``15\text{ cm}^2`` has ``core`` 15 and unit cm^2."""

    core: str
    unit: Unit | None = None
    percent: bool = False


@dataclass(frozen=True, slots=True)
class BasedNumber:
    """Digits written in a stated base."""

    digits: str
    base: int


def read_number(text: str) -> Fraction | None:
    """Read a plain number exactly (integer, decimal, scientific, fraction, mixed, repeating decimal), or return None.

    Numbers above 1500 digits or with exponents beyond 5000 in size are not read.
    """
    if len(text) > MAX_DIGITS or not re.search(r"\d", text):
        return None
    sign = _SIGN.match(text)
    assert sign is not None
    value = _unsigned(_without_parentheses(text[sign.end() :].strip()))
    if value is None:
        return None
    return -value if sign["sign"] == "-" else value


def _without_parentheses(text: str) -> str:
    match = re.fullmatch(r"\(([^()]*)\)|\{([^{}]*)\}", text)
    return (match[1] or match[2] or "").strip() if match else text


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").rstrip(".") or "0")


def _unsigned(text: str) -> Fraction | None:
    if match := _PLAIN.fullmatch(text):
        return _decimal(match["m"])
    if re.fullmatch(r"\d{1,3}(?: \d{3})+(?:\.\d+)?", text):
        return _decimal(text.replace(" ", ""))
    if match := _FRACTION.fullmatch(text):
        return _ratio(match["n1"] or match["n2"], match["d1"] or match["d2"])
    if match := _E_NOTATION.fullmatch(text):
        return _scaled(match["m"], match["e"])
    if match := _SCIENTIFIC.fullmatch(text):
        return _scaled(match["m"] or "1", match["e1"] or match["e2"] or match["e3"])
    if match := _MIXED.fullmatch(text):
        part = _ratio(match["n1"] or match["n2"], match["d1"] or match["d2"])
        return None if part is None or part >= 1 else int(match["w"]) + part
    if match := _REPEATING.fullmatch(text):
        return _repeating(match["whole"], match["once"], match["rep"] or match["rep1"])
    if match := _ELLIPSIS.fullmatch(text):
        return _repeating(match["whole"], match["once"], match["rep"])
    return None


def _ratio(numerator: str, denominator: str) -> Fraction | None:
    bottom = _decimal(denominator)
    return _decimal(numerator) / bottom if bottom else None


def _scaled(mantissa: str, exponent: str) -> Fraction | None:
    if len(exponent) > 5 or abs(int(exponent)) > MAX_EXPONENT:
        return None
    return _decimal(mantissa) * Fraction(10) ** int(exponent)


def _repeating(whole: str, once: str, period: str) -> Fraction:
    head = Fraction(int(whole + once or "0"), 10 ** len(once))
    return head + Fraction(int(period), 10 ** len(once) * (10 ** len(period) - 1))


def read_based(text: str) -> BasedNumber | None:
    """Read ``204_5``, ``4210_{5}`` or ``52_{\\text{eight}}``; None where no base is stated."""
    text = _BASE_SUFFIX.sub(r"_{\1}", text.strip())
    match = _BASE.fullmatch(text)
    if match is None:
        return None
    name = match["b1"] or match["b2"] or match["b3"]
    base = int(name) if name.isdigit() and len(name) < 4 else NUMBER_WORDS.get(name.lower())
    if base is None or not (re.search(r"\d", match["digits"]) or _only_letter_digits(match["digits"], base)):
        return None
    return BasedNumber(match["digits"].upper(), base)


def _only_letter_digits(digits: str, base: int) -> bool:
    """Tell ``AB_{12}``, a number, from ``x_1`` and ``AB_1``, names."""
    return len(digits) > 1 and all(digit >= "A" and ord(digit) - ord("A") + 10 < base for digit in digits)


@dataclass(frozen=True, slots=True)
class Residue:
    r"""A value and its modulus: ``3 \\pmod 7``."""

    value: str
    modulus: int


def read_residue(text: str) -> Residue | None:
    r"""Read ``3 \\pmod{7}``; None where no modulus is stated."""
    match = _MODULUS.fullmatch(text)
    return Residue(match["value"].strip(), int(match["m1"] or match["m2"])) if match else None


def read_quantity(text: str) -> Quantity:
    """Take percent sign, degree, currency and unit off an expression; the core is everything else."""
    text, percent = _take(
        text.strip(),
        r"(?:\\%\s*(?:\\text\{\s*of\b[^{}]*\})?|\\text\{\s*(?:\\%\s*|per ?cent(?:age)?)\s*\}|\s*\bper ?cent\b)\s*$",
    )
    if _ANGLE_ARGUMENT.search(text):
        return Quantity(text, None, percent)
    text, degree = _take(text, r"\\degree\s*[CF]?\s*$|\\text\{\s*degrees?\s*\}\s*$|(?<=\d)\s*degrees?$")
    if degree:
        return Quantity(text, None, percent)
    text, currency = _currency(text)
    core, unit = _unit(text)
    return Quantity(core, unit or currency, percent)


_ANGLE_ARGUMENT = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])[^+]*\\degree$")  # \sin 30^\circ: not a unit


def _take(text: str, pattern: str) -> tuple[str, bool]:
    shorter = re.sub(pattern, "", text).strip()
    return (shorter, True) if shorter and shorter != text else (text, False)


def _currency(text: str) -> tuple[str, Unit | None]:
    match = re.match(r"(?P<sign>[+-]?)\s*(?P<mark>\\\$|\\pounds|\\euro|[€£¥₹])\s*", text)
    if match and len(text) > match.end():
        return match["sign"] + text[match.end() :], read_unit(_CURRENCY[match["mark"]])
    match = re.search(r"\s*(?P<mark>\\\$|\\pounds|\\euro|[€£¥₹])\s*$", text)
    if match and match.start() > 0:
        return text[: match.start()], read_unit(_CURRENCY[match["mark"]])
    return text, None


_LIMITS = re.compile(r"\b(?:or (?:more|less|fewer|greater|higher)|than|not|at (?:least|most))\b")
# Possessive quantifiers: a run of unit words must not be split in more than one way.
_TEXT_UNIT = re.compile(
    r"(?P<core>.*?[^\s^_])\s*+(?P<unit>(?:(?:\\cdot|/|\\(?!text))?+\s*+\\text\{[^{}]*+\}"
    r"(?:\s*+\^\s*+(?:\{\s*+-?\d\s*+\}|-?\d))?+\s*+)++)"
)
_WORD_UNIT = re.compile(
    r"(?P<core>.*[\d)}])(?P<space>\s*)(?P<unit>[A-Za-z][A-Za-z./ ]*?(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?)\.?$"
)


def _unit(text: str) -> tuple[str, Unit | None]:
    match = _TEXT_UNIT.fullmatch(text) if text.count(r"\text") <= MAX_UNIT_WORDS else None
    if match and _LIMITS.search(match["unit"]) is None:
        return match["core"].strip(), read_unit(match["unit"])
    match = _WORD_UNIT.fullmatch(text)
    if match and (unit := read_unit(match["unit"])) is not None:
        long_word = re.fullmatch(r"[A-Za-z]{3,}(?: [A-Za-z]+)*", match["unit"]) is not None
        stands_alone = bool(match["space"]) and read_number(match["core"]) is not None
        variable = (
            re.fullmatch(r"[A-Za-z](?:\s*\^.*)?|in|mi|ms", match["unit"]) is not None
        )  # 3 m^2, 2in, unless set apart
        set_apart = stands_alone and re.fullmatch(r"m\s*\^.*|in|mi|ms", match["unit"]) is not None
        if (unit.known and (set_apart or not variable)) or (long_word and stands_alone):
            return match["core"].strip(), unit
    return text, None
