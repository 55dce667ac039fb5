r"""The forms of answers: scalar, words, list, tuple or interval, set, union, matrix, equation, inequality, ratio.

Forms are kept apart here because the algebra below cannot tell ``(1,2)`` from ``\{1,2\}`` or ``[1,2)``.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scalar:
    """One expression, still as text."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """A text answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Values without brackets: unordered, repetitions count; ``joiner`` is the word between them, if one."""

    items: tuple["Shape", ...]
    joiner: str = ","


@dataclass(frozen=True, slots=True)
class Group:
    r"""Values in brackets: tuple or interval by ``(``, ``[``, ``<``; set by ``{``."""

    left: str
    right: str
    items: tuple["Shape", ...]


@dataclass(frozen=True, slots=True)
class UnionOf:
    r"""Parts joined by ``\cup``."""

    parts: tuple["Shape", ...]


@dataclass(frozen=True, slots=True)
class Difference:
    r"""``A \setminus B``."""

    whole: "Shape"
    removed: "Shape"


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of entries; ``kind`` is "matrix" or "determinant"."""

    rows: tuple[tuple["Shape", ...], ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Equation:
    """Sides joined by equality signs."""

    sides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inequality:
    r"""Sides joined by ``<``, ``>``, ``\le``, ``\ge``, ``\ne``."""

    sides: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    r"""``x \in M``."""

    subject: str
    whole: "Shape"


@dataclass(frozen=True, slots=True)
class Ratio:
    """``a:b:c``."""

    parts: tuple[str, ...]


Shape = Scalar | Words | Listing | Group | UnionOf | Difference | Matrix | Equation | Inequality | Member | Ratio
