r"""Sets of real numbers: intervals, unions, inequalities, ``\mathbb{R}``, in one canonical form."""

import re
from dataclasses import dataclass, replace

from ttsv.scoring.normalize import compact
from ttsv.scoring.scalars import Scalars
from ttsv.scoring.shape import Difference, Equation, Group, Inequality, Listing, Member, Scalar, Shape, UnionOf

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
        if re.fullmatch(r"\\mathbb\{R\}|\\text\{all real numbers\}", compact(shape.text)):
            return [Piece(_MINUS_INFINITY, True, _INFINITY, True)]
        return [] if compact(shape.text) == r"\emptyset" else None
    if isinstance(shape, Group):
        return _group(shape)
    if isinstance(shape, Inequality):
        return _inequality(shape)
    if isinstance(shape, Difference):
        return _minus(pieces(shape.whole), pieces(shape.removed))
    return _joined(shape)


def _joined(shape: Shape) -> list[Piece] | None:
    if isinstance(shape, Listing) and all(isinstance(part, Inequality) for part in shape.items) and _all_hold(shape):
        return _common([pieces(part) for part in shape.items])
    parts = shape.parts if isinstance(shape, UnionOf) else shape.items if isinstance(shape, Listing) else ()
    if isinstance(shape, Listing) and (
        shape.joiner == "and" or not any(isinstance(p, Inequality | Group) for p in parts)
    ):
        return None
    found: list[list[Piece]] = []
    for part in parts:
        inside = _point(part) if isinstance(part, Equation) else pieces(part)
        if inside is None:
            return None
        found.append(inside)
    # What is removed is removed from what stands before it, so a part with holes comes first.
    found.sort(key=lambda part: all(not piece.removed for piece in part))
    if len(found) > 1 and any(piece.removed for piece in found[1]):
        return None
    return [piece for part in found for piece in part] or None


def _all_hold(conditions: Listing) -> bool:
    """Tell whether conditions hold at once: joined by "and", or with an exception (``x > 0, x \\ne 9``)."""
    exceptions = any(r"\ne" in part.operators for part in conditions.items if isinstance(part, Inequality))
    return conditions.joiner == "and" or (exceptions and conditions.joiner == ",")


def _minus(whole: list[Piece] | None, removed: list[Piece] | None) -> list[Piece] | None:
    if whole is None or removed is None or any(piece.removed for piece in removed):
        return None
    return [*whole, *(replace(piece, removed=True) for piece in removed)]


def _common(sets: list[list[Piece] | None]) -> list[Piece] | None:
    """Intersect sets that are one interval each, less what is removed from it."""
    found: list[Piece] = []
    for place, part in enumerate(sets):
        if part is None or any(piece.removed is (k == 0) for k, piece in enumerate(part)):
            return None
        found.extend(part if place == 0 else [*_outside(part[0]), *part[1:]])
    return found


def _outside(piece: Piece) -> list[Piece]:
    below = Piece(_MINUS_INFINITY, True, piece.low, not piece.low_open, removed=True)
    above = Piece(piece.high, not piece.high_open, _INFINITY, True, removed=True)
    return [part for part, end in ((below, piece.low), (above, piece.high)) if _INFINITY not in compact(end)]


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
        symbols = [side for side in map(_without_bars, shape.sides) if _is_symbol(side)]
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


_DISTANCE = re.compile(r"\|(?P<name>[A-Za-z])(?:(?P<sign>[+-])(?P<shift>[^|]+))?\|")


def _without_bars(side: str) -> str:
    match = _DISTANCE.fullmatch(compact(side))
    return match["name"] if match else side


def _absolute(shape: Inequality) -> list[Piece] | None:
    """Read ``|x - a| < b``, ``|x - a| > b`` and their like, b not negative."""
    matches = [_DISTANCE.fullmatch(compact(side)) for side in shape.sides]
    place = 0 if matches[0] else 1
    distance, bound, sign = matches[place], shape.sides[1 - place], shape.operators[0]
    if len(shape.sides) != 2 or distance is None or _has_symbols(bound + (distance["shift"] or "")) or sign == r"\ne":
        return None
    centre = f"{'-' if distance['sign'] == '+' else ''}({distance['shift']})" if distance["shift"] else ""
    low, high = f"{centre}-({bound})", f"{centre}+({bound})" if centre else bound
    is_open = sign in "<>"
    if (sign in ("<", r"\le")) == (place == 0):
        return [Piece(low, is_open, high, is_open)]
    return [Piece(_MINUS_INFINITY, True, low, is_open), Piece(high, is_open, _INFINITY, True)]


def _inequality(shape: Inequality) -> list[Piece] | None:
    if any(_DISTANCE.fullmatch(compact(side)) for side in shape.sides[:2]):
        return _absolute(shape)
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
        return [Piece(_MINUS_INFINITY, True, _INFINITY, True), Piece(bound, False, bound, False, removed=True)]
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
