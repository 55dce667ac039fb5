"""Equality of quantities: numbers, units, percent signs, currencies, bases and moduli; the rest is for the algebra."""

import re
from dataclasses import dataclass
from fractions import Fraction

from ttsv.scoring.quantity import BasedNumber, Quantity, read_based, read_number, read_quantity, read_residue
from ttsv.scoring.scalars import Scalars


@dataclass(frozen=True, slots=True)
class Quantities:
    """Compares two single expressions; ``relative_tolerance`` is for tasks whose own convention allows one."""

    scalars: Scalars
    relative_tolerance: float | None = None

    def same(self, gold: str, answer: str) -> bool:
        """Tell whether two single expressions with their units, signs and bases are equal."""
        if read_residue(gold) or read_residue(answer):
            return self._same_residue(gold, answer)
        left, right = read_based(gold), read_based(answer)
        if left is not None or right is not None:
            return _same_digits(left, gold, right, answer)
        return self._quantities(read_quantity(gold), read_quantity(answer))

    def _same_residue(self, gold: str, answer: str) -> bool:
        r"""``10 \pmod 7`` is ``3 \pmod 7``, 3 and 10; a modulus may be left out but must not differ."""
        left, right = read_residue(gold), read_residue(answer)
        moduli = {residue.modulus for residue in (left, right) if residue is not None}
        if len(moduli) > 1:
            return False
        values = left.value if left else gold, right.value if right else answer
        first, second = map(read_number, values)
        if first is None or second is None or first == second:
            return self.same(*values)
        modulus = moduli.pop()
        reduced = (left is not None or 0 <= first < modulus) and (right is not None or 0 <= second < modulus)
        return reduced and (first - second) % modulus == 0

    def _quantities(self, gold: Quantity, answer: Quantity) -> bool:
        factor = Fraction(1)
        if gold.unit and answer.unit and gold.unit.known and answer.unit.known:
            if gold.unit.dimension != answer.unit.dimension:
                return False
            factor = answer.unit.factor / gold.unit.factor
        if gold.percent != answer.percent:
            part, whole = (gold, answer) if gold.percent else (answer, gold)
            return self._cores(part.core, whole.core, Fraction(1)) or self._cores(part.core, whole.core, Fraction(100))
        return self._cores(gold.core, answer.core, factor)

    def _cores(self, gold: str, answer: str, factor: Fraction) -> bool:
        left, right = read_number(gold), read_number(answer)
        if left is not None and right is not None:
            return self._close(left, right * factor)
        gold, answer = _written(gold, left), _written(answer, right)
        scaled = answer if factor == 1 else rf"({answer})\cdot\frac{{{factor.numerator}}}{{{factor.denominator}}}"
        return self.scalars.equal(gold, scaled)

    def _close(self, gold: Fraction, answer: Fraction) -> bool:
        if self.relative_tolerance is None:
            return gold == answer
        return abs(gold - answer) <= Fraction(self.relative_tolerance) * abs(gold)


def _written(text: str, number: Fraction | None) -> str:
    """Spell a plain number so that no parser can take ``1e-5`` for e - 5."""
    if number is None:
        return text
    sign = "-" if number < 0 else ""
    if number.denominator == 1:
        return f"{sign}{abs(number.numerator)}"
    return rf"{sign}\frac{{{abs(number.numerator)}}}{{{number.denominator}}}"


def _same_digits(left: BasedNumber | None, gold: str, right: BasedNumber | None, answer: str) -> bool:
    if left is not None and right is not None:
        return left.base == right.base and left.digits.lstrip("0") == right.digits.lstrip("0")
    based, other = (left, answer) if left is not None else (right, gold)
    assert based is not None
    return based.digits.lstrip("0") == re.sub(r"[\s,()]", "", other).upper().lstrip("0")
