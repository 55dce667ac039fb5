r"""Write one scalar so that math-verify's parser cannot misread it.

The parser (latex2sympy2_extended, which math-verify uses) reads well-formed LaTeX, but ``(2)(3)`` as 5 (a mixed
number), ``C`` as ``c``, ``x'`` as ``x``, ``sin(x)`` as s i n(x), ``\sin x / 5`` as sin(x/5), decimals as rounded
floats, and it is slow on subscripts. So the text is rewritten token by token: every variable becomes one letter,
numbers become exact, products between brackets are written out, bare function arguments get brackets.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

from ttsv.scoring.extract import matching_brace
from ttsv.scoring.normalize import UnreadableError, matching_parenthesis
from ttsv.scoring.notation import readable
from ttsv.scoring.vocabulary import ACCENTS, COMMANDS, FUNCTIONS, NOT_SYMBOLS, STRUCTURE, Symbols

MAX_TOKENS = 600
_TOKEN = re.compile(
    r"(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4}(?!\d))?)|\\(?P<command>[A-Za-z]+)|(?P<word>[A-Za-z]+)"
    r"|(?P<sign>\*\*|[-+*/^_!(){}\[\]|,=']|\\[{}|])|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL,
)


def rewrite(text: str, symbols: Symbols) -> str:
    """Return the explicit form of a scalar. Raises :class:`UnreadableError` for what is not one."""
    text = readable(text)
    index_names = r"\sum" in text or r"\prod" in text
    out = "".join(_Writer(text, symbols, index_names).write())
    previous = None
    while previous != out:
        previous, out = out, re.sub(r"\(\(([^()]*)\)\)", r"(\1)", out)
    return out


class _Writer:
    """One pass over the tokens of a scalar."""

    def __init__(self, text: str, symbols: Symbols, index_names: bool) -> None:
        self.text, self.symbols, self.index_names = text, symbols, index_names
        self.position = 0
        self.out: list[str] = []
        self.numeric_end = False  # the last thing written ends a factor that the parser may take for a whole number

    def write(self) -> list[str]:
        while (match := _TOKEN.match(self.text, self.position)) is not None:
            self.position = match.end()
            if len(self.out) > MAX_TOKENS:
                raise UnreadableError("too many parts in one expression")
            getattr(self, f"_on_{match.lastgroup}")(match[0].lstrip("\\") if match.lastgroup == "command" else match[0])
        return self.out

    def _put(self, token: str, numeric_end: bool = False) -> None:
        self.out.append(token)
        self.numeric_end = numeric_end

    def _on_space(self, _: str) -> None:
        self.out.append(" ")

    def _on_other(self, token: str) -> None:
        raise UnreadableError(f"{token!r} is not part of an expression")

    def _on_number(self, token: str) -> None:
        last = "".join(self.out).rstrip()[-1:]
        if last and (last.isdigit() or last == "."):
            raise UnreadableError("two numbers side by side")
        if self.numeric_end or (last.isalpha() and not self._after_command()):
            self._put(r"\cdot ")
        if not token.isdigit():
            value = Fraction(token.rstrip("."))
            self._put(rf"\frac{{{value.numerator}}}{{{value.denominator}}}", True)
        else:
            self._put(token.lstrip("0") or "0", True)

    def _after_command(self) -> bool:
        return re.search(r"\\[A-Za-z]+\s*$", "".join(self.out[-3:])) is not None

    def _on_sign(self, token: str) -> None:
        if token in ("\\{", "\\}", "=", "'"):
            raise UnreadableError(f"{token!r} is not part of a single expression")
        if token == "_":
            raise UnreadableError("a subscript without a name")
        if token in "([" and self.numeric_end:
            self._put(r"\cdot ")
        if (
            token in ("(", "[")
            and self.out
            and re.fullmatch(r"[A-Za-z]", self.out[-1].strip())
            and self.out[-1].strip() not in ("e", "I")
        ):
            self.out[-1] = "{" + self.out[-1].strip() + "}"
        written = {"*": r"\cdot ", "**": "^", "[": "(", "]": ")", "\\|": "|"}.get(token, token)
        if token in ("^", "**"):
            self._put("^{" + self._inner(self._power()) + "}")
            self.numeric_end = True
            return
        self._put(written, token in ")]}" or token == "!")

    def _power(self) -> str:
        """Take the exponent: a group, or a signed number or name (``x^-2``, ``10^10``)."""
        rest = self.text[self.position :]
        skipped = len(rest) - len(rest.lstrip())
        rest = rest.lstrip()
        if rest.startswith(("{", "(")):
            end = matching_brace(rest, 0) if rest[0] == "{" else matching_parenthesis(rest, 0)
            if end is None:
                raise UnreadableError("unbalanced exponent")
            self.position += skipped + end + 1
            return self._tower(rest[1:end])
        match = re.match(
            r"[+-]?\s*(?:\d+(?:\.\d+)?|\\frac\{[^{}]*\}\{[^{}]*\}|\\?[A-Za-z]+(?<=\\[a-z]{2})|\\[A-Za-z]+|[A-Za-z])",
            rest,
        )
        if match is None:
            raise UnreadableError("an exponent is missing")
        self.position += skipped + match.end()
        return self._tower(match[0])

    def _tower(self, exponent: str) -> str:
        """Read ``a^b^c`` as a^(b^c)."""
        next_power = re.compile(r"\s*(?:\^|\*\*)(?!\s*\{?\s*\\prime)").match(self.text, self.position)
        if next_power is None:
            return exponent
        self.position = next_power.end()
        return f"({exponent})^{{{self._power()}}}"

    def _inner(self, text: str) -> str:
        if not text.strip():
            raise UnreadableError("an empty exponent or argument")
        return "".join(_Writer(text, self.symbols, self.index_names).write())

    def _on_word(self, token: str) -> None:
        self.position -= len(token) - 1
        self._symbol(token[0])

    def _on_command(self, name: str) -> None:
        name = COMMANDS.get(name, name)
        if name in FUNCTIONS:
            self._function(name)
        elif name in ("frac", "binom"):
            self._arguments(name, 2)
        elif name == "sqrt":
            self._root()
        elif name == "pi":
            self._put(r"\pi ")
        elif name in STRUCTURE:
            self._structure(name)
        elif name == "infty":
            self._put(r"\infty ")
        elif name in NOT_SYMBOLS:
            raise UnreadableError(f"\\{name} is not part of a single expression")
        elif name in ACCENTS:
            self._symbol(f"\\{name}{{{self._take_argument()}}}")
        else:
            self._symbol("\\" + name)

    def _structure(self, name: str) -> None:
        if name in ("sum", "prod"):
            bounds = "".join(self._bound() for _ in range(2))
            self._put(f"\\{name}{bounds}")
            return
        if name.startswith("l") and self.numeric_end:
            self._put(r"\cdot ")
        self._put(f"\\{name} ", name.startswith("r"))

    def _bound(self) -> str:
        match = re.compile(r"\s*([_^])\s*").match(self.text, self.position)
        if match is None:
            raise UnreadableError("a sum or product lacks its bounds")
        self.position = match.end()
        parts = [self._inner(part) for part in self._take_argument().split("=")]
        return match[1] + "{" + "=".join(parts) + "}"

    def _take_argument(self) -> str:
        while self.text[self.position : self.position + 1] == " ":
            self.position += 1
        if self.text[self.position : self.position + 1] == "{":
            end = matching_brace(self.text, self.position)
            if end is None:
                raise UnreadableError("unbalanced braces")
            argument = self.text[self.position + 1 : end]
            self.position = end + 1
            return argument
        match = re.compile(r"\\[A-Za-z]+|[^\s{}]").match(self.text, self.position)
        if match is None:
            raise UnreadableError("a command lacks its argument")
        self.position = match.end()
        return match[0]

    def _arguments(self, name: str, count: int) -> None:
        whole = "".join(self.out).rstrip()[-1:].isdigit()
        arguments = [self._take_argument() for _ in range(count)]
        mixed = (
            name == "frac"
            and whole
            and all(re.fullmatch(r"\s*\d+\s*", a) for a in arguments)
            and int(arguments[0]) < int(arguments[1])
        )
        if self.numeric_end and not mixed:
            self._put(r"\cdot ")
        self._put(f"\\{name}" + "".join("{" + self._inner(a) + "}" for a in arguments), True)

    def _root(self) -> None:
        index = re.compile(r"\s*\[([^\[\]]*)\]").match(self.text, self.position)
        if index:
            self.position = index.end()
        argument = self._inner(self._take_argument())
        if self.numeric_end:
            self._put(r"\cdot ")
        if index:
            self._put(f"({argument})^{{\\frac{{1}}{{{self._inner(index[1])}}}}}", True)
        else:
            self._put(f"\\sqrt{{{argument}}}", True)

    def _symbol(self, name: str) -> None:
        subscript, primes = "", ""
        while match := re.compile(r"\s*(?:_\s*|('+)|\^\s*(?:\{\s*((?:\\prime\s*)+|\*)\}|(\\prime|\*)))").match(
            self.text, self.position
        ):
            self.position = match.end()
            mark = match[1] or match[2] or match[3]
            if mark:
                primes += "'" * (len(mark) if mark[0] == "'" else mark.count("prime")) or "*"
            else:
                subscript += "_" + re.sub(r"[\s{}]|\\text", "", self._take_argument())
        called = re.compile(r"\(\s*(\d+)\s*\)").match(self.text, self.position)
        if called and not self.index_names and name.lstrip("\\").isalpha():
            self.position = called.end()
            subscript += f"({called[1]})"
        full = name + subscript + primes
        if full == "e":
            written = "e"
        elif full in ("i", r"\imath") and not self.index_names:
            powered = re.compile(r"\s*(?:\^|\*\*)").match(self.text, self.position)
            written = "{I}" if powered else "I"  # the parser drops the exponent of a bare I
        else:
            written = self.symbols.letter(full)
        self._put(written + " ")

    def _function(self, name: str) -> None:
        if self.numeric_end:
            self.out.append(" ")
        head = f"\\{name}"
        while match := re.compile(r"\s*([_^])\s*").match(self.text, self.position):
            self.position = match.end()
            head += match[1] + "{" + self._inner(self._take_argument()) + "}"
        rest = self.text[self.position :].lstrip()
        if rest.startswith(("(", "[", "{", "|")):
            self._put(head)
            self._wrap_group()
            return
        argument = "".join(self._bare_argument())
        self._put(f"{head}({self._inner(argument)})", True)

    def _wrap_group(self) -> None:
        while self.text[self.position] == " ":
            self.position += 1
        if self.text[self.position] == "|":
            return
        opening = self.text[self.position]
        end = (
            matching_brace(self.text, self.position)
            if opening == "{"
            else matching_parenthesis(self.text, self.position)
        )
        if end is None:
            raise UnreadableError("unbalanced brackets")
        inside = self.text[self.position + 1 : end]
        self.position = end + 1
        parts = (
            [self._inner(part) for part in inside.split(",")]
            if self.out[-1] in (r"\gcd", r"\lcm", r"\max", r"\min")
            else [self._inner(inside)]
        )
        self._put("(" + ",".join(parts) + ")", True)

    def _bare_argument(self) -> Iterator[str]:
        """Take the factors that a function name without brackets applies to: ``\\sin 2x + 1`` is sin(2x) + 1."""
        pattern = re.compile(
            r"\s*(?:\d+(?:\.\d+)?|\\(?:frac\{(?:[^{}]|\{[^{}]*\})*\}\{(?:[^{}]|\{[^{}]*\})*\}|sqrt(?:\[[^\[\]]*\])?\{(?:[^{}]|\{[^{}]*\})*\})|\\(?!(?:"
            + "|".join(sorted(FUNCTIONS | NOT_SYMBOLS | STRUCTURE))
            + r")(?![A-Za-z]))[A-Za-z]+|[A-Za-z])(?:\s*[_^]\s*(?:\{[^{}]*\}|\w|\\[A-Za-z]+))*'*"
        )
        found = False
        while match := pattern.match(self.text, self.position):
            self.position = match.end()
            found = True
            yield match[0]
        if not found:
            raise UnreadableError("a function lacks its argument")
