"""From a completion to its final answer: the last box, else an explicit final-answer sentence, else nothing."""

import re
from dataclasses import dataclass
from typing import Literal

Source = Literal["box", "sentence", "none"]

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACED_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_UNBRACED_END = re.compile(r"\$|\n|\\\)|\\\]|[,;]\s|\.(?:\s|$)|\s[A-Za-z]{2,}")
_SENTENCE = re.compile(
    r"\banswers?\b[*_]*(?:\s+(?:to|of|for)\b[^.\n:=]{0,80}?|\s*\([^()\n]{0,40}\))?"
    r"\s*(?:\b(?:is|are|equals|becomes|(?:would|must|will|should)\s+be)\b|:|=)[*_]*:?"
    r"|^[#*_ \t]*(?:the\s+)?final\s+answer[*_ \t]*\n",
    re.IGNORECASE | re.MULTILINE,
)
_FILLER = re.compile(
    r"^(?:(?:therefore|thus|then|simply|just|approximately|equal to|given by|option|choice|indeed)\b,?\s*)+",
    re.IGNORECASE,
)
_HASHES = re.compile(r"^####[ \t]*(?P<answer>\S.*)$", re.MULTILINE)
_NUMBER_LIKE = re.compile(r"[-+$\\ *]*[\d.][\d,./ ]*(?:\\?%)?\s*(?:[a-z]+\s*){0,3}\**\s*")
_CLAUSE_END = re.compile(
    r"\.(?=\s|$|<\|)|\n|<\||</s>|[,;]?\s+(?:because|since|so|as|which|where|hence|when|therefore|but)\b|[!?](?=\s[A-Z]|$)",
    re.IGNORECASE,
)
_MATH_SPAN = re.compile(r"\$\$(?P<dd>.+?)\$\$|\$(?P<d>.+?)(?<!\\)\$|\\\((?P<p>.+?)\\\)|\\\[(?P<b>.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?")
_JOINER = re.compile(r"\s*(?:,|;|and|or|,\s*and|,\s*or)\s*", re.IGNORECASE)
_SENTENCE_LENGTH = 2000
_LINE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answer text found in a completion, or None and the reason; ``source`` says where it stood."""

    answer: str | None
    source: Source
    why: str


def extract(text: str) -> Extraction:
    """Find the final answer of a completion.

    Only what follows the last ``</think>`` counts. The last outermost box decides, even if it is empty or unclosed
    (then there is no answer: an earlier box was not the last word). Without any box a sentence such as "The final
    answer is 5." or a GSM8K line ``#### 5`` decides, the last of them. Runs in time linear in the text.
    """
    text = text.rpartition("</think>")[2]
    box = _last_box(text)
    if box is not None:
        return box
    return _last_sentence(text)


def matching_brace(text: str, start: int) -> int | None:
    r"""Index of the brace that closes the one at ``start``, or None; ``\{`` and ``\}`` do not count."""
    depth, i = 0, start
    while i < len(text):
        char = text[i]
        if char == "\\":
            i += 2
            continue
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return i
        i += 1
    return None


def box_ends(text: str) -> list[int]:
    """Return where each closed box ends (the position after its brace), in order."""
    ends = [matching_brace(text, match.end()) for match in _BRACED_BOX.finditer(text)]
    return [end + 1 for end in ends if end is not None]


def last_expression(text: str) -> str | None:
    """Return what a lenient reader might take for the answer of a text: its last formula or number, whichever ends later; or None.

    No rule of grading: it tells failures of format from failures of mathematics.
    """
    formulas = [(match.end(), next(g for g in match.groups() if g is not None)) for match in _MATH_SPAN.finditer(text)]
    numbers = [(match.end(), match.group()) for match in _NUMBER.finditer(text)]
    # Of a number inside the last formula, the whole formula.
    found = max([*formulas[-1:], *numbers[-1:]], key=lambda each: each[0], default=None)
    return found[1] if found else None


def _last_box(text: str) -> Extraction | None:
    found: Extraction | None = None
    position = 0
    while (match := _BOX.search(text, position)) is not None:
        start = match.end()
        if text[start : start + 1] != "{":
            found, position = _unbraced(text, start), start
            continue
        end = matching_brace(text, start)
        if end is None:
            return Extraction(None, "box", "the last box is not closed")
        found, position = _nonempty(text[start + 1 : end], "box", "last box"), end + 1
    return found


def _unbraced(text: str, start: int) -> Extraction:
    line = text[start : start + 400]
    end = _UNBRACED_END.search(line)
    return _nonempty(line[: end.start()] if end else line, "box", "last box, without braces")


def _nonempty(answer: str, source: Source, why: str) -> Extraction:
    answer = answer.strip()
    if not answer:
        return Extraction(None, source, f"{why}: empty")
    return Extraction(answer, source, why)


def _last_sentence(text: str) -> Extraction:
    lines = [match for match in _HASHES.finditer(text) if match.end() - match.start("answer") <= _LINE_LENGTH]
    hashes = [match for match in lines if _NUMBER_LIKE.fullmatch(match["answer"].strip())]
    sentences = list(_SENTENCE.finditer(text))
    if hashes and (not sentences or hashes[-1].start() > sentences[-1].start()):
        return _nonempty(hashes[-1]["answer"].strip(" *"), "sentence", "line of ####")
    if not sentences:
        return Extraction(None, "none", "no box and no final-answer sentence")
    return _sentence_answer(text[sentences[-1].end() :][:_SENTENCE_LENGTH])


def _sentence_answer(rest: str) -> Extraction:
    rest = rest.lstrip(" \t*_:\n")
    rest = _FILLER.sub("", rest)
    spans = _leading_math(rest)
    if spans is not None:
        return _nonempty(spans, "sentence", "final-answer sentence")
    if re.match(r"\$(?!\d)|\\\(|\\\[", rest):
        return Extraction(None, "sentence", "the final-answer sentence is cut off")
    end = _CLAUSE_END.search(rest)
    if end is None and len(rest) > _SENTENCE_LENGTH - 100:
        return Extraction(None, "sentence", "the final-answer sentence does not end")
    clause = rest[: end.start()] if end else rest
    return _nonempty(clause.replace("**", "").strip(" *_"), "sentence", "final-answer sentence")


def _leading_math(rest: str) -> str | None:
    """Join the math spans that open the sentence: ``$1$ and $2$`` is one answer of two values."""
    parts: list[str] = []
    position = 0
    while (match := _MATH_SPAN.match(rest, position)) is not None:
        parts.append(next(group for group in match.groups() if group is not None))
        joiner = _JOINER.match(rest, match.end())
        if joiner is None:
            break
        position = joiner.end()
    return ", ".join(parts) if parts else None
