"""Equality of forms: which kinds may stand for one another, in what order and number their parts must agree."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ttsv.scoring.equations import in_the_letters_of, is_name, same_name, stated_value
from ttsv.scoring.normalize import compact
from ttsv.scoring.quantities import Quantities
from ttsv.scoring.reading import read
from ttsv.scoring.scalars import Scalars
from ttsv.scoring.sets import pieces, same_set, subject
from ttsv.scoring.shape import (
    Difference,
    Equation,
    Group,
    Inequality,
    Listing,
    Matrix,
    Member,
    Ratio,
    Scalar,
    Shape,
    UnionOf,
    Words,
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares two forms with one algebra; ``relative_tolerance`` is for tasks whose own convention allows one."""

    scalars: Scalars
    relative_tolerance: float | None = None

    def same(self, gold: Shape, answer: Shape) -> bool:
        """Tell whether the answer equals the gold in the form asked for."""
        if isinstance(gold, Words) or isinstance(answer, Words):
            return _same_words(gold, answer)
        if isinstance(gold, Equation) or isinstance(answer, Equation):
            return self._equations(gold, answer)
        relations = self._relations(gold, answer)
        return self._values(gold, answer) if relations is None else relations

    def _relations(self, gold: Shape, answer: Shape) -> bool | None:
        for_sets = self._as_sets(gold, answer)
        if for_sets is not None:
            return for_sets
        if isinstance(gold, Member) or isinstance(answer, Member):
            return self._members(gold, answer)
        if isinstance(gold, Inequality) and isinstance(answer, Inequality):
            return self._inequalities(gold, answer)
        return None

    def _values(self, gold: Shape, answer: Shape) -> bool:
        if isinstance(gold, Listing) and isinstance(answer, Listing) and _is_system(answer) and _is_system(gold):
            return self._systems(gold, answer)
        if _is_collection(gold) or _is_collection(answer):
            return self._collections(gold, answer)
        if isinstance(gold, Group) and isinstance(answer, Group):
            return _same_brackets(gold, answer) and self._in_order(gold.items, answer.items)
        if isinstance(gold, Matrix) or isinstance(answer, Matrix):
            return self._matrices(gold, answer)
        if isinstance(gold, Ratio) and isinstance(answer, Ratio):
            return self._ratios(gold.parts, answer.parts)
        gold, answer = _as_fraction(gold), _as_fraction(answer)
        if isinstance(gold, Scalar) and isinstance(answer, Scalar):
            return self.same_scalar(gold.text, answer.text)
        return False

    def same_scalar(self, gold: str, answer: str) -> bool:
        """Tell whether two single expressions with their units, signs and bases are equal."""
        return Quantities(self.scalars, self.relative_tolerance).same(gold, answer)

    def _equations(self, gold: Shape, answer: Shape) -> bool:
        if isinstance(gold, Equation) and isinstance(answer, Equation):
            answer = in_the_letters_of(gold, answer)
            if is_name(gold.sides[0]) and same_name(gold.sides[0], answer.sides[0]):
                return self.same(read(gold.sides[-1]), read(answer.sides[-1]))
            ends = ((gold.sides[0], gold.sides[-1]), (answer.sides[0], answer.sides[-1]))
            return self.scalars.same_equation(*ends) != 0
        if isinstance(gold, Equation):
            return is_name(gold.sides[0]) and self.same(read(gold.sides[-1]), answer)
        assert isinstance(answer, Equation)
        value = stated_value(answer)
        return value is not None and self.same(gold, read(value))

    def _as_sets(self, gold: Shape, answer: Shape) -> bool | None:
        kinds = (Inequality, UnionOf, Difference, Member)
        special = any(
            isinstance(shape, kinds) or _is_named_set(shape) or _has_inequality(shape) for shape in (gold, answer)
        )
        if not special:
            return None
        left, right = pieces(gold), pieces(answer)
        if left is None or right is None:
            return None
        names = (subject(gold), subject(answer))
        if None not in names and names[0] != names[1]:
            return False
        return same_set(left, right, self.scalars)

    def _members(self, gold: Shape, answer: Shape) -> bool:
        if isinstance(gold, Member) and isinstance(answer, Member) and compact(gold.subject) != compact(answer.subject):
            return False
        return self.same(
            gold.whole if isinstance(gold, Member) else gold, answer.whole if isinstance(answer, Member) else answer
        )

    def _inequalities(self, gold: Inequality, answer: Inequality) -> bool:
        if len(gold.operators) == len(answer.operators) == 1:
            return self._single_inequality(gold, answer)
        turned = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
        reverse = (tuple(turned.get(op, op) for op in reversed(answer.operators)), tuple(reversed(answer.sides)))
        return any(
            gold.operators == operators and all(self.same_scalar(g, a) for g, a in zip(gold.sides, sides, strict=True))
            for operators, sides in ((answer.operators, answer.sides), reverse)
        )

    def _single_inequality(self, gold: Inequality, answer: Inequality) -> bool:
        sign = self.scalars.same_equation((gold.sides[0], gold.sides[1]), (answer.sides[0], answer.sides[1]))
        turned = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
        operator = answer.operators[0]
        return sign != 0 and gold.operators[0] == (operator if sign > 0 else turned.get(operator, operator))

    def _collections(self, gold: Shape, answer: Shape) -> bool:
        if isinstance(answer, Listing) and answer.joiner == "or" and not _is_collection(gold):
            return all(self.same(gold, item) for item in answer.items)  # one value in two spellings
        left, right = _items(gold), _items(answer)
        tuple_side = _tuple_beside_list(gold, answer)
        if tuple_side is not None:
            return self._in_order(*_named_in_order(left, right))
        if isinstance(gold, Group) and gold.left != "{" and len(right) != 1:
            return False
        if isinstance(answer, Group) and answer.left != "{" and len(left) != 1:
            return False
        sets = [isinstance(shape, Group) and shape.left == "{" for shape in (gold, answer)]
        if all(sets):
            return self._covers(left, right) and self._covers(right, left)
        return len(left) == len(right) and self._matches(left, right)

    def _covers(self, left: Sequence[Shape], right: Sequence[Shape]) -> bool:
        return all(any(self.same(a, b) for b in right) for a in left)

    def _matches(self, left: Sequence[Shape], right: Sequence[Shape]) -> bool:
        rest = list(right)
        for item in left:
            place = next((i for i, other in enumerate(rest) if self.same(item, other)), None)
            if place is None:
                return False
            del rest[place]
        return True

    def _systems(self, gold: Listing, answer: Listing) -> bool:
        return len(gold.items) == len(answer.items) and self._matches(gold.items, answer.items)

    def _in_order(self, left: Sequence[Shape], right: Sequence[Shape]) -> bool:
        return len(left) == len(right) and all(self.same(g, a) for g, a in zip(left, right, strict=True))

    def _matrices(self, gold: Shape, answer: Shape) -> bool:
        if isinstance(gold, Matrix) and isinstance(answer, Matrix):
            same_form = gold.kind == answer.kind and [len(row) for row in gold.rows] == [
                len(row) for row in answer.rows
            ]
            return same_form and all(self._in_order(g, a) for g, a in zip(gold.rows, answer.rows, strict=True))
        matrix, other = (gold, answer) if isinstance(gold, Matrix) else (answer, gold)
        entries = _vector(matrix)
        if entries is None or not isinstance(other, Group) or other.left not in "(<" or other.right not in ")>":
            return False
        pair = (entries, other.items) if matrix is gold else (other.items, entries)
        return self._in_order(*pair)

    def _ratios(self, gold: Sequence[str], answer: Sequence[str]) -> bool:
        if len(gold) != len(answer):
            return False
        return all(
            self.same_scalar(f"({gold[0]})({a})", f"({answer[0]})({g})")
            for g, a in zip(gold[1:], answer[1:], strict=True)
        )


def _as_fraction(shape: Shape) -> Shape:
    if isinstance(shape, Ratio) and len(shape.parts) == 2:
        return Scalar(rf"\frac{{{shape.parts[0]}}}{{{shape.parts[1]}}}")
    return shape


def _same_words(gold: Shape, answer: Shape) -> bool:
    left, right = _letters(gold), _letters(answer)
    return left is not None and left == right


def _letters(shape: Shape) -> str | None:
    if not isinstance(shape, Words | Scalar | Ratio):
        return None
    text = ":".join(shape.parts) if isinstance(shape, Ratio) else shape.text
    plain = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text).lower()
    plain = re.sub(r"^\s*(?:the|an?)\s+", "", plain)
    return re.sub(r"[^a-z0-9+/<>=-]", "", plain).removesuffix("s") or None


def _same_brackets(gold: Group, answer: Group) -> bool:
    if len(gold.items) != 2:
        return "{" not in (gold.left, answer.left)
    signs = str.maketrans("<>", "()")
    return (gold.left + gold.right).translate(signs) == (answer.left + answer.right).translate(signs)


def _is_collection(shape: Shape) -> bool:
    return isinstance(shape, Listing) or (isinstance(shape, Group) and shape.left == "{")


def _items(shape: Shape) -> tuple[Shape, ...]:
    if isinstance(shape, Listing) or (isinstance(shape, Group) and shape.left == "{"):
        return shape.items
    return (shape,)


def _tuple_beside_list(gold: Shape, answer: Shape) -> Group | None:
    """A tuple and a bare list: brackets were left out, so the order counts. Returns the tuple."""
    for group, other in ((gold, answer), (answer, gold)):
        if isinstance(group, Group) and isinstance(other, Listing) and group.left in "([<":
            one_kind = all(not isinstance(item, Group) for item in other.items)
            if one_kind and (len(group.items) != 2 or (group.left in "(<" and group.right in ")>")):
                return group
    return None


def _named_in_order(left: Sequence[Shape], right: Sequence[Shape]) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """Open the tuple; ``y = 2, x = 1`` beside ``(1,2)`` is put in the order of its names."""

    def opened(items: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(items) == 1 and isinstance(items[0], Group):
            return items[0].items
        if all(isinstance(item, Equation) for item in items):
            names = [compact(item.sides[0]) for item in items if isinstance(item, Equation)]
            if len(set(names)) == len(names) and all(name[0] != "\\" for name in names):
                return tuple(item for _, item in sorted(zip(names, items, strict=True), key=lambda pair: pair[0]))
        return tuple(items)

    return opened(left), opened(right)


def _is_system(listing: Listing) -> bool:
    return all(isinstance(item, Equation) for item in listing.items)


def _has_inequality(shape: Shape) -> bool:
    return isinstance(shape, Listing) and any(isinstance(item, Inequality) for item in shape.items)


def _is_named_set(shape: Shape) -> bool:
    return isinstance(shape, Scalar) and compact(shape.text) in (r"\mathbb{R}", r"\emptyset")


def _vector(matrix: Shape) -> tuple[Shape, ...] | None:
    if not isinstance(matrix, Matrix) or matrix.kind != "matrix":
        return None
    if len(matrix.rows) == 1:
        return matrix.rows[0]
    return tuple(row[0] for row in matrix.rows) if all(len(row) == 1 for row in matrix.rows) else None
