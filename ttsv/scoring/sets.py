r"""Sets of real numbers: intervals, unions, inequalities, ``\mathbb{R}``, in one canonical form."""

import re
from dataclasses import dataclass

from ttsv.scoring.normalize import compact
from ttsv.scoring.scalars import Scalars
from ttsv.scoring.shape import Equation, Group, Inequality, Listing, Member, Scalar, Shape, UnionOf

_INFINITY = r"\infty"
_MINUS_INFINITY = r"-\infty"


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval; ``..._open`` says whether an end is left out, ``removed`` that the whole is taken away."""

    low: str
    low_open: bool
    high: str
    high_open: bool
    removed: bool = False


def pieces(shape: Shape) -> list[Piece] | None:
    """Read a form as a union of intervals and points, or return None if it is not one."""
    if isinstance(shape, Member):
        return pieces(shape.whole)
    if isinstance(shape, Scalar):
        without = re.fullmatch(r"\\mathbb\{R\}(?:\\setminus|\\backslash|-)\\\{(.+)\\\}", compact(shape.text))
        if without:
            holes = [Piece(value, False, value, False, removed=True) for value in without[1].split(",")]
            return [Piece(_MINUS_INFINITY, True, _INFINITY, True), *holes]
        if re.fullmatch(r"\\mathbb\{R\}|\\text\{all real numbers\}", compact(shape.text)):
            return [Piece(_MINUS_INFINITY, True, _INFINITY, True)]
        return [] if compact(shape.text) == r"\emptyset" else None
    if isinstance(shape, Group):
        return _group(shape)
    if isinstance(shape, Inequality):
        return _inequality(shape)
    parts = shape.parts if isinstance(shape, UnionOf) else shape.items if isinstance(shape, Listing) else ()
    if isinstance(shape, Listing) and (
        shape.joiner == "and" or not any(isinstance(p, Inequality | Group) for p in parts)
    ):
        return None
    found: list[Piece] = []
    for part in parts:
        inside = _point(part) if isinstance(part, Equation) else pieces(part)
        if inside is None:
            return None
        found.extend(inside)
    return found or None


def _point(equation: Equation) -> list[Piece] | None:
    value = equation.sides[-1]
    return [Piece(value, False, value, False)] if _is_symbol(equation.sides[0]) else None


def _group(group: Group) -> list[Piece] | None:
    texts = [item.text for item in group.items if isinstance(item, Scalar)]
    if len(texts) != len(group.items):
        return None
    if group.left == "{":
        return [Piece(text, False, text, False) for text in texts]
    if len(texts) == 2 and group.left in "([" and group.right in ")]":
        return [Piece(texts[0], group.left == "(", texts[1], group.right == ")")]
    return None


def subject(shape: Shape) -> str | None:
    """Return the variable that an inequality or membership is about."""
    if isinstance(shape, Member):
        return compact(shape.subject)
    if isinstance(shape, Inequality):
        symbols = [side for side in shape.sides if _is_symbol(side)]
        return compact(symbols[0]) if len(symbols) == 1 else None
    if isinstance(shape, Listing | UnionOf):
        names = {subject(part) for part in (shape.items if isinstance(shape, Listing) else shape.parts)}
        return names.pop() if len(names) == 1 else None
    return None


def _is_symbol(text: str) -> bool:
    return re.fullmatch(r"(?:[A-Za-z]|\\[a-z]+)(?:_\{?\w+\}?)?", compact(text)) is not None and compact(text) not in (
        _INFINITY,
        r"\pi",
        "e",
        "i",
    )


def _inequality(shape: Inequality) -> list[Piece] | None:
    signs = [{r"\le": "<=", r"\ge": ">=", r"\ne": "!="}.get(op, op) for op in shape.operators]
    places = [i for i, side in enumerate(shape.sides) if _is_symbol(side)]
    if len(places) != 1 or any(_has_symbols(side) for i, side in enumerate(shape.sides) if i != places[0]):
        return None
    if len(signs) == 1:
        return _one_sided(shape.sides, places[0], signs[0])
    if len(signs) != 2 or places[0] != 1 or "!=" in signs or signs[0][0] != signs[1][0]:
        return None
    low, high = (0, 2) if signs[0][0] == "<" else (2, 0)
    low_sign, high_sign = (signs[0], signs[1]) if low == 0 else (signs[1], signs[0])
    return [Piece(shape.sides[low], "=" not in low_sign, shape.sides[high], "=" not in high_sign)]


def _one_sided(sides: tuple[str, ...], place: int, sign: str) -> list[Piece]:
    bound = sides[1 - place]
    if sign == "!=":
        return [Piece(_MINUS_INFINITY, True, bound, True), Piece(bound, True, _INFINITY, True)]
    below = (sign[0] == "<") == (place == 0)
    if below:
        return [Piece(_MINUS_INFINITY, True, bound, "=" not in sign)]
    return [Piece(bound, "=" not in sign, _INFINITY, True)]


def _has_symbols(text: str) -> bool:
    words = re.sub(r"\\(?:frac|sqrt|pi|infty|ln|log|cdot|times|text)(?![A-Za-z])|e(?![A-Za-z])", " ", text)
    return re.search(r"[A-Za-z]", words) is not None


def same_set(gold: list[Piece], answer: list[Piece], scalars: Scalars) -> bool:
    """Tell whether two unions of intervals are the same set. Raises what ``scalars.order`` raises."""
    ends = [end for piece in (*gold, *answer) for end in (piece.low, piece.high)]
    ranks = scalars.order(ends)
    top = max(ranks, default=0)
    unbounded = {rank for end, rank in zip(ends, ranks, strict=True) if compact(end).lstrip("+-") == _INFINITY}
    cells = [_cells(gold, ranks[: 2 * len(gold)]), _cells(answer, ranks[2 * len(gold) :])]
    ignored = {2 * rank for rank in unbounded if rank in (0, top)}
    return cells[0] - ignored == cells[1] - ignored


def _cells(found: list[Piece], ranks: list[int]) -> set[int]:
    """Mark the points (even numbers) and gaps (odd numbers) between ranked ends that the pieces cover."""
    covered: set[int] = set()
    for piece, low, high in zip(found, ranks[::2], ranks[1::2], strict=True):
        cells = range(2 * low + piece.low_open, 2 * high + 1 - piece.high_open)
        covered.difference_update(cells) if piece.removed else covered.update(cells)
    return covered
