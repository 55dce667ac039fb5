"""Equality of single expressions: math-verify's parser reads them, exact arithmetic and many-digit values decide.

Runs in a worker process only: the parser has no bound on its time.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import mpmath
import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from math_verify import verify

from ttsv.scoring.evaluate import DIGITS, TooLargeError, UndefinedError, exact, numeric
from ttsv.scoring.expression import rewrite
from ttsv.scoring.normalize import UnreadableError, compact, normalize
from ttsv.scoring.quantity import read_number, read_quantity
from ttsv.scoring.vocabulary import Symbols

_POINTS = 6
_CLOSE = mpmath.mpf(10) ** (10 - DIGITS)
_MANY_DIGITS = 400
_CONFIG = ConversionConfig(interpret_as_mixed_fractions=True, lowercase_symbols=False)
_WHOLE_NUMBERS = (sympy.floor, sympy.ceiling, sympy.factorial, sympy.binomial, sympy.Sum, sympy.Product)


@lru_cache(maxsize=4096)
def _parse(latex: str) -> Any:
    try:
        return latex2sympy(
            latex, is_real=None, convert_degrees=False, normalization_config=None, conversion_config=_CONFIG
        )
    except RecursionError as error:
        raise UnreadableError("nested too deeply") from error
    except MemoryError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise UnreadableError(f"math-verify's parser: {reason}") from error


def parse(text: str, symbols: Symbols) -> Any:
    """Parse a scalar into a sympy expression; raises :class:`UnreadableError` where it is not one as a whole."""
    expression = _parse(rewrite(text, symbols))
    if not isinstance(expression, sympy.Expr):
        raise UnreadableError(f"not a single expression: {type(expression).__name__}")
    return expression


def describe(text: str) -> str:
    """Say how a single expression is read, for an account of a verdict."""
    try:
        core = read_quantity(normalize(text)).core
        number = read_number(core)
        return f"the number {number}" if number is not None else str(parse(core, Symbols()))
    except UnreadableError as error:
        return f"not a single expression ({error})"


class Algebra:
    """The full :class:`ttsv.scoring.scalars.Scalars`; a tolerance, if any, is for real constants only."""

    def __init__(self, relative_tolerance: float | None = None) -> None:
        self.relative_tolerance = relative_tolerance

    def equal(self, gold: str, answer: str) -> bool:
        """See :class:`ttsv.scoring.scalars.Scalars`."""
        if compact(gold) == compact(answer):
            return True
        symbols = Symbols()
        try:
            left = parse(gold, symbols)
        except UnreadableError as error:
            raise UnreadableError(f"gold answer: {error}") from error
        right = parse(answer, symbols)
        return _equal(left, right, symbols) or self._close(left, right)

    def _close(self, left: Any, right: Any) -> bool:
        if self.relative_tolerance is None or left.free_symbols or right.free_symbols:
            return False
        a, b = numeric(left, {}), numeric(right, {})
        return bool(abs(a - b) <= self.relative_tolerance * abs(a))

    def same_equation(self, gold: tuple[str, str], answer: tuple[str, str]) -> int:
        """See :class:`ttsv.scoring.scalars.Scalars`."""
        symbols = Symbols()
        left, right = (parse(first, symbols) - parse(last, symbols) for first, last in (gold, answer))
        return _proportion(left, right, symbols)

    def order(self, values: Sequence[str]) -> list[int]:
        """See :class:`ttsv.scoring.scalars.Scalars`."""
        with mpmath.workdps(DIGITS):
            numbers = [_real(parse(value, Symbols())) for value in values]
            ranks: list[Any] = []
            for number in sorted(numbers):
                if not ranks or not _near(number, ranks[-1]):
                    ranks.append(number)
            return [next(i for i, rank in enumerate(ranks) if _near(number, rank)) for number in numbers]


def _real(expression: Any) -> Any:
    if expression in (sympy.oo, -sympy.oo):
        return mpmath.inf if expression == sympy.oo else -mpmath.inf
    value = numeric(expression, {})
    if isinstance(value, mpmath.mpc):
        raise UnreadableError("a complex number has no order")
    return value


def _near(left: Any, right: Any) -> bool:
    if left == right:
        return True
    if mpmath.isinf(left) or mpmath.isinf(right):
        return False
    size = max(abs(left), abs(right))
    return bool(abs(left - right) <= mpmath.mpf(10) ** (10 - mpmath.mp.dps) * max(size, mpmath.mpf(10) ** -300))


def _equal(left: Any, right: Any, symbols: Symbols) -> bool:
    exact_left, exact_right = exact(left), exact(right)
    if exact_left is not None and exact_right is not None:
        return exact_left == exact_right
    if sympy.oo in (left, right) or -sympy.oo in (left, right):
        return bool(left == right)
    if not left.free_symbols and not right.free_symbols:
        same = _same_value(left, right, {})
        return bool(left == right) if same is None else same
    agreed = 0
    for point in _sample(left, right, symbols):
        same = _same_value(left, right, point)
        if same is False and not (agreed and _positive_quantities(left, right) and any(v < 0 for v in point.values())):
            return False
        agreed += same is True
    if agreed >= 2:
        return True
    return bool(verify(left, right, timeout_seconds=None))


def _positive_quantities(left: Any, right: Any) -> bool:
    """Formulas of several letters with roots and without bars: there the letters stand for positive quantities."""
    letters = left.free_symbols | right.free_symbols
    powers = left.atoms(sympy.Pow) | right.atoms(sympy.Pow)
    roots = any(power.exp.is_Rational and not power.exp.is_Integer for power in powers)
    return len(letters) > 1 and roots and not left.has(sympy.Abs) and not right.has(sympy.Abs)


def _same_value(left: Any, right: Any, point: dict[str, Any]) -> bool | None:
    r"""Compare two expressions at a point, in two precisions, so that no difference of 10^-100 is made or missed.

    None where one has no value there, or is complex where a variable is negative (``\ln x^2`` is ``2 \ln x``).
    """
    for digits in (DIGITS, _MANY_DIGITS):
        with mpmath.workdps(digits):
            try:
                a, b = numeric(left, point), numeric(right, point)
            except UndefinedError:
                return None
            if any(isinstance(value, mpmath.mpc) for value in (a, b)) and any(value < 0 for value in point.values()):
                return None
            if not _near(a, b) and max(abs(a), abs(b)) > mpmath.mpf(10) ** (10 - digits):
                return False
    return True


def _sample(left: Any, right: Any, symbols: Symbols) -> list[dict[str, Any]]:
    """Points with fixed pseudo-random coordinates: positive and negative, whole where the expressions count things."""
    names = sorted(
        {symbol.name for expression in (left, right) for symbol in expression.free_symbols}
        | set(symbols.letters.values())
    )
    whole = any(expression.has(*_WHOLE_NUMBERS) or _alternates(expression) for expression in (left, right))
    generator = random.Random(2512_04748)
    points = []
    for k in range(_POINTS):
        if whole:
            points.append({name: mpmath.mpf(generator.randint(2, 30)) for name in names})
            continue
        signs = (1, -1) if k >= _POINTS // 2 else (1,)
        points.append({name: generator.choice(signs) * mpmath.mpf(generator.randint(3, 2000)) / 997 for name in names})
    return points


def _alternates(expression: Any) -> bool:
    return any(power.base.is_negative and power.exp.free_symbols for power in expression.atoms(sympy.Pow)) or any(
        argument.has(sympy.pi) and argument.free_symbols and isinstance(argument, sympy.Mul)
        for function in expression.atoms(sympy.sin, sympy.cos)
        for argument in function.args
    )


def _proportion(left: Any, right: Any, symbols: Symbols) -> int:
    ratios: list[Any] = []
    with mpmath.workdps(DIGITS):
        for point in _sample(left, right, symbols):
            try:
                a, b = numeric(left, point), numeric(right, point)
            except (UndefinedError, TooLargeError):
                continue
            if abs(a) < _CLOSE and abs(b) < _CLOSE:
                continue
            if abs(a) < _CLOSE or abs(b) < _CLOSE:
                return 0
            ratios.append(a / b)
        if len(ratios) < 2 or not all(_near(ratio, ratios[0]) for ratio in ratios):
            return 0
        return 1 if mpmath.re(ratios[0]) > 0 else -1
