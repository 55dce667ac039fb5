"""Splitting a normalized text at the separators that stand outside all brackets, braces and environments."""

import re

from ttsv.scoring.normalize import UnreadableError

MAX_ITEMS = 200

_TOKEN = re.compile(r"\\(?:begin|end)\{[A-Za-z*]+\}|\\[A-Za-z]+|\\.|.", re.DOTALL)
_OPEN = ("{", "(", "[", "\\{", "\\lfloor", "\\lceil", "\\langle")
_CLOSE = ("}", ")", "]", "\\}", "\\rfloor", "\\rceil", "\\rangle")


def top_level(text: str) -> list[bool]:
    """Tell for each character whether it stands outside all brackets, braces and environments."""
    depth, marks = 0, [False] * len(text)
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in _CLOSE or token.startswith("\\end{"):
            depth -= 1
        elif token in _OPEN or token.startswith("\\begin{"):
            depth += 1
        else:
            marks[match.start()] = depth == 0
    return marks


def split(text: str, separator: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Split at the separators that stand outside all brackets; return the parts and the separators."""
    marks = top_level(text)
    parts, found, position = [], [], 0
    for match in separator.finditer(text):
        if marks[match.start()]:
            parts.append(text[position : match.start()].strip())
            found.append(match[0])
            position = match.end()
    parts.append(text[position:].strip())
    if len(parts) > MAX_ITEMS:
        raise UnreadableError(f"more than {MAX_ITEMS} parts")
    return parts, found
