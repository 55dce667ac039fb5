"""The words of single expressions: functions, commands that build, accents, and what is never a variable."""

from dataclasses import dataclass, field

from ttsv.scoring.normalize import UnreadableError

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


@dataclass
class Symbols:
    """Gives every variable name its letter; shared by the two sides of a comparison."""

    letters: dict[str, str] = field(default_factory=dict)

    def letter(self, name: str) -> str:
        """Return the letter that stands for a name; a plain letter stands for itself where it can."""
        if name not in self.letters:
            used = set(self.letters.values())
            free = [c for c in (name, *LETTERS) if c in LETTERS and c not in used]
            if not free:
                raise UnreadableError("too many variables")
            self.letters[name] = free[0]
        return self.letters[name]
