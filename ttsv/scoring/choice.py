"""Multiple choice: which letter a text settles on, and a grader for tasks whose gold is a letter."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ttsv.records import Verdict
from ttsv.scoring.extract import extract

_WRAPPED = re.compile(
    r"\s*(?:\$|\\\()?\s*\\(?:text|textbf|mathrm|mathbf|textrm|mbox|textsf)\s*\{\s*(?:\\(?:textbf|text|mathbf|mathrm)\s*\{\s*)?"
    r"\(?\s*(?P<letter>[A-Z])\s*[).:]?\s*\}*.*",
    re.DOTALL,
)
_BRACKETED = re.compile(r"\s*\$?\s*\(\s*(?P<letter>[A-Za-z])\s*\)(?P<rest>.*)", re.DOTALL)
_BARE = re.compile(
    r"\s*(?:\*\*|\$|(?i:(?:the\s+)?(?:option|choice|answer)(?:\s+is)?)\s*:?\s*)*\s*\(?(?P<letter>[A-Za-z])\s*(?:$|\*\*|[).:,$]|\s(?![-+*/^=a-z]))",
    re.DOTALL,
)
_GOLD = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|textrm|mbox|textsf)\{\s*\(?\s*(?P<a>[A-Z])\s*\)?\s*\}|\(\s*(?P<b>[A-Z])\s*\)"
)
_DOTTED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textrm|mbox|textsf)\s*\{([^{}]*)\}")


def letter_of(text: str, bare: bool) -> str | None:
    r"""Return the option letter, upper case, that a text is or begins with; None if it is not a choice.

    With ``bare`` False only a marked letter such as ``\text{(B)}`` or ``(B)`` counts, because a lone B may be a
    variable.
    """
    if len(text) > 300:
        return None
    if not bare:
        match = _GOLD.fullmatch(text.strip())
        return (match["a"] or match["b"]) if match else None
    text = re.sub(r"\\(?:boxed|mathcal|mathbb)(?![A-Za-z])", " ", text)
    plain = re.sub(
        r"[{}]|\\[,;: !]",
        " ",
        re.sub(r"\\(?:text|textbf|mathrm|mathbf|textrm|mbox|textsf|bf|rm)\s*(?![A-Za-z])", " ", text),
    )
    if re.match(r"\s*\(?[A-Za-z]\)?\s*(?:,|and|or|&)\s*\(?[A-Za-z]\)?\s*(?:$|,|and)", plain):
        return None  # several letters
    found = _BRACKETED.fullmatch(plain) or _BARE.match(plain)
    return found["letter"].upper() if found else None


_LABEL = re.compile(
    r"\s*(?:\\(?:text|textbf|mathrm|mathbf|textrm)\s*\{\s*\(?[A-E]\)[.:~ ]*\}|\([A-E]\)(?=\s*(?:\\[ ,;:~]|~)|\s+\d))"
    r"(?:\\[ ,;:!]|\\quad|~|\s|:)*(?=[^\s}])"
)


def without_label(text: str) -> str:
    r"""Drop the option letter before a value: ``\textbf{(E)}\ 27`` is 27."""
    return _LABEL.sub("", text, count=1)


@dataclass(frozen=True)
class ChoiceGrader:
    """Grades tasks whose gold answers are option letters; the letters of ``options`` are the valid answers."""

    options: str = "ABCDEFGHIJ"
    name: str = "choice"
    version: int = 3

    def grade(self, golds: Sequence[str], texts: Sequence[str]) -> list[Verdict]:
        """See :class:`ttsv.scoring.base.Grader`."""
        return [self._one(gold, text) for gold, text in zip(golds, texts, strict=True)]

    def _one(self, gold: str, text: str) -> Verdict:
        expected = letter_of(gold, bare=True)
        if expected is None or expected not in self.options:
            return Verdict(
                False, None, "error", f"the gold answer {gold[:40]!r} is not one of the options {self.options}"
            )
        extraction = extract(text)
        if extraction.answer is None:
            return Verdict(False, None, "no_answer", extraction.why)
        letter = letter_of(extraction.answer, bare=True)
        if letter is None or letter not in self.options:
            return Verdict(False, extraction.answer, "unparsed", f"not one of the options {self.options}")
        return Verdict(letter == expected, extraction.answer, "ok", f"letter {letter} against {expected}")
