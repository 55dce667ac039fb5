r"""How the release finds an answer in a completion and how it rewrites answer and gold before comparing them."""

import re

MAX_LENGTH = 2000

# Words seen to vanish from the released golds and predictions, and the common measures beside them.
_UNITS = [
    "mm", "cm", "dm", "m", "km", "inch", "inches", "foot", "feet", "ft", "yard", "mile", "mi", "acre", "hectare",
    "ml", "l", "liter", "litre", "gallon", "mg", "g", "gram", "kg", "pound", "lb", "ounce", "s", "sec", "second",
    "min", "minute", "h", "hour", "hr", "day", "week", "month", "year", "mph", "kmph", "degree", "rad", "cent",
    "dollar", "rupee", "percent", "unit", "person", "people", "man", "men", "woman", "women", "apple", "coin",
    "toy", "am", "pm", "noon", "east", "a", "c"
]  # fmt: skip
_UNIT_WORDS = sorted({word + ending for word in _UNITS for ending in ("", "s")}, key=len, reverse=True)
_UNIT = re.compile(r"(?P<before>^|\W)(?:" + "|".join(re.escape(word) for word in _UNIT_WORDS) + r")(?P<after>$|\W)")

_SPELLINGS = [
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\begin\{array\}\{.*?\}|\\begin\{bmatrix\}"), r"\\begin{pmatrix}"),
    (re.compile(r"\\end\{array\}|\\end\{bmatrix\}"), r"\\end{pmatrix}"),
    (re.compile(r"\\[td]frac"), r"\\frac"),
    (re.compile(r"\\neq"), r"\\ne"),
    (re.compile(r"\\leq"), r"\\le"),
    (re.compile(r"\\geq"), r"\\ge"),
    (re.compile(r"\\left|\\right"), ""),
    (re.compile(r"\\\{"), "{"),
    (re.compile(r"\\\}"), "}"),
]
_LATER = [
    (re.compile(r"\^\{\\circ\}|\^\\circ"), ""),
    (re.compile(r"\\\$|\$|\\\(|\\\)"), ""),
    (re.compile(r"\\text\{(.*?)\}"), r"\1"),
    (re.compile(r"[xyz](?:=|\\in|\\to)"), ""),
    (re.compile(r"\\emptyset"), "{}"),
    (re.compile(r"\(-\\infty,\\infty\)"), r"\\mathbb{R}"),
    (re.compile(r"\\%|%"), ""),
    (re.compile(r" \."), " 0."),
    (re.compile(r"\{\."), "{0."),
]
_LAST = [
    (re.compile(r"infinity"), r"\\infty"),
    (re.compile(r"(?<!\\)inf(?!ty)"), r"\\infty"),
    (re.compile(r"\+\\infty"), r"\\infty"),
    (re.compile(r"and|\\mathbf"), ""),
    (re.compile(r"\\mbox\{.*?\}"), ""),
    (re.compile(r"['\"]"), ""),
    (re.compile(r"(\d+)\.0*([^\d])"), r"\1\2"),
    (re.compile(r"(\d+)\.0*$"), r"\1"),
]


def release_answer(text: str) -> str | None:
    """Return what the release takes from a completion: phrase, last box, or last number; None if there is none.

    It may be empty: the release drops the word "east" as if it were a unit, and then finds two empty texts equal.
    """
    if "final answer is $" in text and "$. I hope" in text:
        found = text.split("final answer is $", 1)[1].split("$. I hope", 1)[0].strip()
    elif "boxed" in text:
        found = _boxed(text.rsplit("boxed", 1)[1])
    elif "he answer is" in text:
        found = text.rsplit("he answer is", 1)[1].strip()
    else:
        numbers = re.findall(r"-?\d*\.?\d+", text.replace(",", ""))
        found = numbers[-1] if numbers else ""
    if not found:
        return None
    if len(found) > MAX_LENGTH:
        return found
    found = re.sub(r"\n\s*", "", found).removeprefix(":").removesuffix(".").removesuffix("/")
    return rewritten(found)


def _boxed(rest: str) -> str:
    if not rest:
        return ""
    if rest[0] != "{":
        return rest.split("$", 1)[0].strip()
    depth = 1
    for i, char in enumerate(rest[1:], start=1):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return rest[1:i]
    return rest[1:]


def rewritten(text: str) -> str:
    """Return the form in which the release compares an answer or a gold answer."""
    text = text.strip().replace("\n", "").rstrip(".")
    text = _apply(_SPELLINGS, text)
    without_unit = re.sub(r"\\text\{.*?\}$", "", text).strip()
    text = without_unit or text
    for _ in range(2):
        text = _without_units(text)
    text = _apply(_LATER, text)
    if text[:1] in ("{", "(", "[") and text[-1:] in ("}", ")", "]") and text[1:-1].isalnum():
        text = text[1:-1]
    text = _apply(_LAST, text)
    if "j" in text and "i" not in text:
        text = text.replace("j", "i")
    if text.startswith("."):
        text = "0" + text
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        text = sides[1]
    return _fractions(_roots(text).replace(" ", ""))


def _apply(rules: list[tuple[re.Pattern[str], str]], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _without_units(text: str) -> str:
    return _UNIT.sub(lambda match: match["before"] + match["after"], text)


def _roots(text: str) -> str:
    return re.sub(r"\\sqrt(\w+)", r"\\sqrt{\1}", text)


def _fractions(text: str) -> str:
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac(\d)\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\{[^{}]*\})(\w)", r"\1{\2}", text)
    simple = re.fullmatch(r"(-?\d+)/(-?\d+)", text)
    return rf"\frac{{{simple[1]}}}{{{simple[2]}}}" if simple else text
