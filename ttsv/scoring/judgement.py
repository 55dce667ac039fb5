"""The verdict on one extracted answer, by the conventions; the same code runs in the caller and in the worker."""

import re
from dataclasses import dataclass

from ttsv.records import Flag
from ttsv.scoring.bounds import refuse_oversized
from ttsv.scoring.choice import letter_of, without_label
from ttsv.scoring.compare import Comparison
from ttsv.scoring.normalize import UnreadableError, compact, normalize
from ttsv.scoring.reading import THOUSANDS, read
from ttsv.scoring.scalars import PlainScalars, Scalars, UndecidedError
from ttsv.scoring.shape import Equation, Group, Listing, Scalar, Shape

__all__ = ["Judgement", "UndecidedError", "judge", "judge_plainly", "judge_with_algebra", "warm_up"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether an answer is right, how that came about, and why."""

    correct: bool
    flag: Flag
    why: str


def judge_plainly(gold: str, answer: str, relative_tolerance: float | None) -> Judgement:
    """Judge without algebra, in microseconds; raises :class:`UndecidedError` where algebra is needed."""
    return judge(gold, answer, PlainScalars(), relative_tolerance)


def judge_with_algebra(gold: str, answer: str, relative_tolerance: float | None) -> Judgement:
    """Judge with everything; only a killable worker should call this."""
    from ttsv.scoring.algebra import Algebra
    from ttsv.scoring.evaluate import TooLargeError

    try:
        return judge(gold, answer, Algebra(relative_tolerance), relative_tolerance)
    except TooLargeError as error:
        return Judgement(False, "unparsed", str(error))
    except (ArithmeticError, RecursionError) as error:
        return Judgement(False, "unparsed", f"no value: {error}"[:200])


def judge(gold: str, answer: str, scalars: Scalars, relative_tolerance: float | None) -> Judgement:
    """Compare a gold answer with an answer text under the conventions of :mod:`ttsv.scoring`."""
    letter = letter_of(gold, bare=False)
    if letter is not None:
        found = letter_of(answer, bare=True)
        return Judgement(found == letter, "ok", f"letter {found} against {letter}")
    if without_label(gold) == gold:
        answer = without_label(answer)
    if gold.strip() == answer.strip():
        return Judgement(True, "ok", "the same text")
    try:
        plain = normalize(answer)
        if not plain:
            return Judgement(False, "no_answer", "the answer is empty")
        if compact(plain) != compact(_normal(gold)):
            refuse_oversized(plain)
    except UnreadableError as error:
        return Judgement(False, "unparsed", str(error))
    try:
        expected = normalize(gold)
        gold_shape = read(expected)
    except UnreadableError as error:
        return Judgement(False, "unparsed", f"the gold answer cannot be read: {error}")
    if compact(expected) == compact(plain):
        return Judgement(True, "ok", "the same expression")
    try:
        answer_shape = read(_commas_as_meant(plain, gold_shape))
        same = Comparison(scalars, relative_tolerance).same(gold_shape, answer_shape)
    except UnreadableError as error:
        return Judgement(False, "unparsed", str(error))
    return Judgement(same, "ok", _reason(same, gold_shape, answer_shape))


def _normal(gold: str) -> str:
    try:
        return normalize(gold)
    except UnreadableError:
        return gold


def _commas_as_meant(answer: str, gold: Shape) -> str:
    r"""Read commas as the gold answer needs them: ``8,100`` beside two values is two, ``1,000\pi`` beside one is one."""
    if isinstance(gold, Listing | Group):
        return answer.replace(",", ", ") if THOUSANDS.fullmatch(answer) else answer
    if isinstance(gold, Scalar | Equation) and re.search(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", answer):
        return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", answer) if not re.search(r"[(\[]|\\\{", answer) else answer
    return answer


def _reason(same: bool, gold: Shape, answer: Shape) -> str:
    kinds = tuple(type(shape).__name__.lower() for shape in (gold, answer))
    if same:
        return "equal" if kinds[0] == kinds[1] else f"equal, a {kinds[1]} for a {kinds[0]}"
    return "not equal" if kinds[0] == kinds[1] else f"not equal: a {kinds[1]} where a {kinds[0]} is expected"


def warm_up() -> None:
    """Fill the parser's caches before the first job; called where a worker starts."""
    for pair in ((r"\frac{\sqrt{2}}{2}+3x^2", r"\frac{1}{\sqrt{2}}+3x^{2}"), (r"e^{-x}\sin(2x)+\ln y", r"\pi(n+1)!")):
        judge_with_algebra(*pair, None)
