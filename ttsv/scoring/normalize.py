"""One spelling for one formula: LaTeX layout, synonyms, fonts, Unicode. Meaning is never changed here."""

import re
import unicodedata

from ttsv.scoring.extract import matching_brace
from ttsv.scoring.spelling import CLAUSE, LAYOUT, SUBSCRIPTS, SUPERSCRIPTS, SYNONYMS, UNICODE, VULGAR

MAX_LENGTH = 2000
MAX_DEPTH = 20


class UnreadableError(ValueError):
    """The answer is not an expression that can be compared; the message says what is wrong with it."""


def normalize(text: str) -> str:
    """Return the one spelling of an answer or gold text; single spaces between tokens are kept.

    Raises :class:`UnreadableError` for control characters, lone surrogates, unbalanced braces, or a text beyond the
    bounds (2000 characters, nesting of 20).
    """
    if len(text) > MAX_LENGTH:
        raise UnreadableError(f"longer than {MAX_LENGTH} characters")
    text = _rows(_plain_characters(text))
    for pattern, replacement in LAYOUT:
        text = pattern.sub(replacement, text)
    text = _unwrap_boxes(text)
    for pattern, replacement in SYNONYMS:
        text = pattern.sub(replacement, text)
    text = _unwrap(text, r"\font")
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(
        r"^\\text\s*\{[^{}]*(?:\b(?:is|are|equals)|[:=])\s*\}\s*(?=.)", "", text
    )  # a sentence before the answer
    text = _brace_arguments(_trim(CLAUSE.sub("", _with_prefixes(text))))
    check_balance(text)
    return text


def compact(text: str) -> str:
    """Return a normalized text without the spaces that mean nothing, for comparison as a string."""
    text = re.sub(r"(\\[A-Za-z]+) (?=[A-Za-z])|(?<=\d) (?=\d)", "\\1\x00", text)
    text = re.sub(r"_\s*\{\s*(\w)\s*\}", r"_\1", text)
    return text.replace(" ", "").replace("\x00", " ")


def _plain_characters(text: str) -> str:
    text = re.sub(r"[\t\n\r\f\v\u2028\u2029\u00a0]", " ", text)
    if text.isascii():
        if not text.isprintable():
            raise UnreadableError("control characters in the answer")
        return text
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ]+", lambda m: "^{" + m[0].translate(SUPERSCRIPTS) + "}", text)
    text = re.sub(r"[₀₁₂₃₄₅₆₇₈₉₊₋]+", lambda m: "_{" + m[0].translate(SUBSCRIPTS) + "}", text)
    text = re.sub("[" + "".join(VULGAR) + "]", lambda m: r"\frac{{{}}}{{{}}}".format(*VULGAR[m[0]].split("/")), text)
    text = "".join(UNICODE.get(char, char) for char in text)
    if any(unicodedata.category(char) in ("Cc", "Cs", "Co", "Cn") for char in text):
        raise UnreadableError("control characters or lone surrogates in the answer")
    return unicodedata.normalize("NFKC", text)


def _rows(text: str) -> str:
    r"""Name the end of a matrix row, ``\\\\``, and repair doubled backslashes such as ``\\\\frac`` outside matrices."""
    cases = re.fullmatch(
        r"(?:\\left)?\s*(?:\\\{)?\s*\\begin\{(cases|aligned)\}(.*)\\end\{\1\}(?:\s*\\right\.)?", text.strip()
    )
    if cases and r"\begin" not in cases[2]:
        return re.sub(r",?\s*\\\\", lambda _: ", ", cases[2].strip().removesuffix("\\\\")).replace("&", " ")
    if r"\begin" not in text:
        return re.sub(r"\\\\(?=[A-Za-z])", lambda _: "\\", text)
    return re.sub(r"\\\\(?:\s*\[\d+(?:\.\d+)?(?:pt|ex|em|mm)\])?|\\cr(?![A-Za-z])", lambda _: r"\newrow ", text)


def _unwrap_boxes(text: str) -> str:
    return _unwrap(_unwrap(text, r"\boxed"), r"\fbox")


def _unwrap(text: str, command: str) -> str:
    """Replace ``command{x}`` by ``x``."""
    while (start := text.find(command + "{")) >= 0:
        brace = start + len(command)
        end = matching_brace(text, brace)
        if end is None:
            raise UnreadableError("unbalanced braces")
        text = text[:start] + " " + text[brace + 1 : end] + text[end + 1 :]
    return text


_INFIX = re.compile(r"\\(over|choose|atop)(?![A-Za-z])")


def _with_prefixes(text: str) -> str:
    r"""Write ``{a \over b}`` and ``{n \choose k}`` as ``\frac{a}{b}`` and ``\binom{n}{k}``."""
    while (match := _INFIX.search(text)) is not None:
        start, end = _enclosing(text, match.start())
        name = "frac" if match[1] == "over" else "binom"
        written = rf"\{name}{{{text[start : match.start()]}}}{{{text[match.end() : end]}}}"
        text = text[:start] + written + text[end:]
    return text


def _enclosing(text: str, place: int) -> tuple[int, int]:
    """Bounds of the innermost braced part around a place; of the whole text if there is none."""
    opened: list[int] = []
    for match in re.finditer(r"\\.|[{}]", text[:place]):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            opened.pop()
    if not opened:
        return 0, len(text)
    end = matching_brace(text, opened[-1])
    if end is None:
        raise UnreadableError("unbalanced braces")
    return opened[-1] + 1, end


def _trim(text: str) -> str:
    """Drop closing punctuation, a leading colon, emphasis marks and braces around everything."""
    previous = None
    while previous != text:
        previous = text
        text = text.strip(' *`"').lstrip(":").removeprefix("=").strip()
        text = re.sub(r"(?<![.\\])[.,;:]$|(?<!\\)\\$", "", text).rstrip()
        if text.startswith("{") and matching_brace(text, 0) == len(text) - 1:
            text = text[1:-1]
        if text.startswith("\\approx"):
            text = text[len("\\approx") :]
    return text


_ARGUMENTS = re.compile(r"\\(frac|sqrt|binom)(?![A-Za-z])")


def _brace_arguments(text: str) -> str:
    r"""Give ``\frac``, ``\sqrt`` and ``\binom`` their braces: ``\frac12`` becomes ``\frac{1}{2}``."""
    out: list[str] = []
    position = 0
    while (match := _ARGUMENTS.search(text, position)) is not None:
        out.append(text[position : match.end()])
        position = match.end()
        if match[1] == "sqrt":
            position = _copy_index(text, position, out)
        for _ in range(1 if match[1] == "sqrt" else 2):
            argument, position = _argument(text, position)
            out.append("{" + _brace_arguments(argument) + "}")
    out.append(text[position:])
    return "".join(out)


def _copy_index(text: str, position: int, out: list[str]) -> int:
    match = re.compile(r"\s*(\[[^\[\]]*\])").match(text, position)
    if match is None:
        return position
    out.append(match[1])
    return match.end()


_ARGUMENT = re.compile(r"\\[A-Za-z]+|[^\\{}]")


def _argument(text: str, position: int) -> tuple[str, int]:
    while text[position : position + 1] == " ":
        position += 1
    if text[position : position + 1] == "{":
        end = matching_brace(text, position)
    elif text[position : position + 1] == "(":
        end = matching_parenthesis(text, position)
    else:
        match = _ARGUMENT.match(text, position)
        if match is None:
            raise UnreadableError("a command lacks its argument")
        if _ARGUMENTS.fullmatch(match[0]):
            return _nested_command(text, match)
        return match[0], match.end()
    if end is None:
        raise UnreadableError("unbalanced braces")
    return text[position + 1 : end], end + 1


def _nested_command(text: str, match: re.Match[str]) -> tuple[str, int]:
    position = match.end()
    for _ in range(1 if match[0] == r"\sqrt" else 2):
        _, position = _argument(text, position)
    return text[match.start() : position], position


def matching_parenthesis(text: str, start: int) -> int | None:
    """Index of the ``)`` or ``]`` that closes the bracket at ``start``, or None."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "([") - (text[i] in ")]")
        if depth == 0:
            return i
    return None


def check_balance(text: str) -> None:
    r"""Raise unless braces, brackets, environments and floors are closed; ``[`` may be closed by ``)`` (intervals)."""
    if re.fullmatch(r"\][^()\[\]]*,[^()\[\]]*[\[\])]|[\[(][^()\[\]]*,[^()\[\]]*\[", text):  # ]a,b[ and [a,b[
        return
    stack: list[str] = []
    for match in re.finditer(
        r"\\(?:begin|end)\{[A-Za-z*]+\}|\\l(?:floor|ceil)\b|\\r(?:floor|ceil)\b|\\[{}]|\\.|[{}()\[\]]", text
    ):
        token = match[0]
        if re.match(r"\\begin|\\l(?:floor|ceil)|\\\{|[{(\[]", token):
            stack.append(_closer(token))
        elif re.match(r"\\end|\\r(?:floor|ceil)|\\\}|[})\]]", token):
            kind = "round" if token in ")]" else token
            if not stack or stack.pop() != kind:
                raise UnreadableError("unbalanced brackets")
        if len(stack) > MAX_DEPTH:
            raise UnreadableError(f"nested deeper than {MAX_DEPTH}")
    if stack:
        raise UnreadableError("unbalanced brackets")


def _closer(token: str) -> str:
    if token in ("(", "["):
        return "round"
    if token.startswith("\\begin"):
        return token.replace("begin", "end")
    return token.replace("\\l", "\\r").replace("{", "}")
