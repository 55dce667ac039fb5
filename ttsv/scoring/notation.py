r"""Notations that math-verify's parser does not know or reads otherwise, put into ones that it reads as meant."""

import re

from ttsv.scoring.normalize import UnreadableError, matching_parenthesis

_SPELLED_OUT = frozenset(
    [
        "sin", "cos", "tan", "cot", "sec", "csc", "ln", "log", "exp", "arcsin", "arccos", "arctan", "sinh", "cosh",
        "tanh", "gcd", "pi", "theta", "omega", "alpha", "beta", "sqrt"
    ]
)  # fmt: skip
_PLAIN_NAMES = {
    "asin": r"\arcsin",
    "acos": r"\arccos",
    "atan": r"\arctan",
    "infinity": r"\infty",
    **{name: "\\" + name for name in _SPELLED_OUT},
}
_PLAIN = re.compile(rf"(?<![A-Za-z\\])(?:{'|'.join(sorted(_PLAIN_NAMES, key=len, reverse=True))})(?![A-Za-z])")
_SIMPLE = [
    (re.compile(r"\\(?:cdots|ldots|dots)"), r"\\ldots"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\(?:cdot|times|ast|star)(?![A-Za-z])"), "*"),
    (re.compile(r"\\lg(?![A-Za-z])"), r"\\log_{10}"),
]
_NAME = r"(?:\\[A-Za-z]+|[A-Za-z])(?:\s*_\s*(?:\{\w+\}|\w))?"
_DERIVATIVE = re.compile(
    rf"\\frac\s*\{{\s*d\s*(?:\^\s*\{{?\s*(?P<order>\d)\s*\}}?)?\s*(?P<name>{_NAME})\s*\}}"
    r"\s*\{\s*d\s*(?:[A-Za-z]|\\[a-z]+)\s*(?:\^\s*\{?\s*\d\s*\}?)?\s*\}"
)
_DOTS = re.compile(rf"\\(?P<dots>d?dot)\s*(?:\{{\s*(?P<name>{_NAME})\s*\}}|(?P<letter>[A-Za-z]|\\[a-z]+))")
_ANGLE = re.compile(
    r"(?P<head>\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\^\s*(?:\{\s*\d\s*\}|\d))?)\s*(?P<open>[({])?\s*"
    r"(?P<angle>\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\})\s*\\degree(?(open)\s*[)}])"
)
_COEFFICIENT = re.compile(r"(?<![\w.^)}\]/])(\d+)\s*/\s*(\d+)(?=\s*(?:[A-Za-z]|\\(?!cdot|times|div|degree)[A-Za-z]))")
_DIVISOR = re.compile(r"/\s*(\d+(?:\.\d+)?)(?=\s*(?:\(|\[|\\(?:sin|cos|tan|cot|sec|csc|exp|ln|log|sqrt)(?![A-Za-z])))")


def readable(text: str) -> str:
    r"""Put a scalar into the parser's notations.

    These are functions without a backslash, multiplication and division signs, derivatives (``\frac{dx}{dt}`` and
    ``\dot x`` are the one symbol x'), degrees inside a trigonometric function, and slashes: a fraction of two whole
    numbers before a letter is its coefficient (``4/3 \pi``), a number that divides does not take a bracket or a
    function after it along (``n/2 (n+1)``).
    """
    text = _with_commands(text)
    for pattern, replacement in _SIMPLE:
        text = pattern.sub(replacement, text)
    text = _DERIVATIVE.sub(lambda match: match["name"] + "'" * int(match["order"] or 1), text)
    text = _DOTS.sub(lambda match: (match["name"] or match["letter"]) + "'" * match["dots"].count("d"), text)
    text = _ANGLE.sub(r"\g<head>(\g<angle>*\\frac{\\pi}{180})", text).replace(r"\degree", " ")
    text = _COEFFICIENT.sub(r"\\frac{\1}{\2}*", text)
    return _DIVISOR.sub(r"/\1*", text)


def _with_commands(text: str) -> str:
    r"""Read ``sqrt(2)``, ``sin x``, ``np.exp(t)`` and ``pi`` written without a backslash."""
    text = re.sub(r"\b(?:np|math|sympy|sp)\.(?=[a-z])", "", text)
    text = _PLAIN.sub(lambda match: _PLAIN_NAMES[match[0]] + " ", text)
    while (match := re.search(r"\\sqrt\s*\(", text)) is not None:
        end = matching_parenthesis(text, match.end() - 1)
        if end is None:
            raise UnreadableError("unbalanced brackets")
        text = text[: match.start()] + r"\sqrt{" + text[match.end() : end] + "}" + text[end + 1 :]
    return text
