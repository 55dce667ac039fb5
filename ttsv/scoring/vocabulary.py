"""The words of single expressions: functions, commands that build, accents, and what is never a variable."""

import re

from ttsv.scoring.normalize import UnreadableError, matching_parenthesis

LETTERS = "abcfghjklmnopqrstuvwxyzABDFGHJKLMPRTUVWXYZ"  # without d, e, i, C, E, I, N, O, Q, S, read as something else
FUNCTIONS = frozenset(
    [
        "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "arccot", "sinh", "cosh", "tanh",
        "arsinh", "arcosh", "artanh", "ln", "log", "exp", "gcd", "lcm", "max", "min"
    ]
)  # fmt: skip
COMMANDS = {
    "tg": "tan",
    "ctg": "cot",
    "arctg": "arctan",
    "cosec": "csc",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
}
STRUCTURE = frozenset(
    [
        "frac", "sqrt", "binom", "lfloor", "rfloor", "lceil", "rceil", "sum", "prod"
    ]
)  # fmt: skip
ACCENTS = frozenset(
    [
        "dot", "ddot", "vec", "hat", "bar", "overline", "tilde", "widehat", "widetilde", "mathbb", "mathcal",
        "mathfrak", "overrightarrow", "text"
    ]
)  # fmt: skip
NOT_SYMBOLS = frozenset(
    [
        "int", "iint", "oint", "lim", "ldots", "dots", "cdots", "vdots", "circ", "degree", "bmod", "newrow", "begin",
        "end", "pm", "mp", "le", "ge", "ne", "in", "cup", "cap", "setminus", "to", "rightarrow", "Rightarrow",
        "implies", "iff", "infty", "emptyset", "forall", "exists", "mid", "approx", "equiv", "sim", "pmod", "choose",
        "over", "not", "langle", "rangle", "left", "right"
    ]
)  # fmt: skip
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


def with_commands(text: str) -> str:
    r"""Read ``sqrt(2)``, ``sin x``, ``np.exp(t)`` and ``pi`` written without a backslash."""
    text = re.sub(r"\b(?:np|math|sympy|sp)\.(?=[a-z])", "", text)
    text = _PLAIN.sub(lambda match: _PLAIN_NAMES[match[0]] + " ", text)
    while (match := re.search(r"\\sqrt\s*\(", text)) is not None:
        end = matching_parenthesis(text, match.end() - 1)
        if end is None:
            raise UnreadableError("unbalanced brackets")
        text = text[: match.start()] + r"\sqrt{" + text[match.end() : end] + "}" + text[end + 1 :]
    return text
