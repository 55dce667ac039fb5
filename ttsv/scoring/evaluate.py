"""Bounded evaluation of parsed expressions: exact rationals where possible, else many-digit complex numbers.

Nothing here expands symbolically: a factorial of a million costs as little as that of three, and what would need more
than the bounds allow raises :class:`TooLargeError` instead of running on.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath
import sympy

DIGITS = 60
MAX_BITS = 60_000
MAX_LOG = mpmath.mpf(10) ** 5


class TooLargeError(ArithmeticError):
    """The value is beyond the bounds of evaluation."""


class UndefinedError(ArithmeticError):
    """The expression has no value here (division by zero, an unknown function, a free symbol)."""


def exact(expression: Any) -> Fraction | None:
    """Return the value of a rational constant exactly, or None if it is none or has more than 60 000 bits."""
    if isinstance(expression, sympy.Rational):
        return Fraction(int(expression.p), int(expression.q)) if expression.q else None
    if isinstance(expression, sympy.Float):
        return Fraction(str(expression))
    if isinstance(expression, sympy.UnevaluatedExpr):
        return exact(expression.args[0])
    if isinstance(
        expression,
        sympy.Add | sympy.Mul | sympy.Pow | sympy.factorial | sympy.Abs | sympy.floor | sympy.ceiling | sympy.binomial,
    ):
        parts = [exact(argument) for argument in expression.args]
        known = [part for part in parts if part is not None]
        return _exact_operation(expression, known) if len(known) == len(parts) else None
    return None


def _exact_operation(expression: Any, parts: list[Fraction]) -> Fraction | None:
    if isinstance(expression, sympy.Add):
        return _bounded(sum(parts, Fraction(0)))
    if isinstance(expression, sympy.Mul):
        product = Fraction(1)
        for part in parts:
            product *= part
            if _bounded(product) is None:
                return None
        return product
    if isinstance(expression, sympy.Pow):
        return _exact_power(*parts)
    if isinstance(expression, sympy.factorial):
        return _factorial(parts[0])
    if isinstance(expression, sympy.binomial):
        return _binomial(*parts)
    if isinstance(expression, sympy.Abs):
        return abs(parts[0])
    return Fraction(parts[0].__floor__() if isinstance(expression, sympy.floor) else parts[0].__ceil__())


def _bounded(value: Fraction) -> Fraction | None:
    return value if max(value.numerator.bit_length(), value.denominator.bit_length()) <= MAX_BITS else None


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or (base == 0 and exponent < 0):
        return None
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits > 1 and bits * abs(exponent) > MAX_BITS:
        return None
    return base ** int(exponent)


def _factorial(value: Fraction) -> Fraction | None:
    if value.denominator != 1 or not 0 <= value <= 3000:
        return None
    product = 1
    for factor in range(2, int(value) + 1):
        product *= factor
    return Fraction(product)


def _binomial(top: Fraction, bottom: Fraction) -> Fraction | None:
    if top.denominator != 1 or bottom.denominator != 1 or not 0 <= bottom <= 3000 or not 0 <= top <= 10**9:
        return None
    value = Fraction(1)
    for k in range(int(bottom)):
        value = value * (int(top) - k) / (k + 1)
        if _bounded(value) is None:
            return None
    return value


def numeric(expression: Any, values: Mapping[str, Any]) -> Any:
    """Return the value of an expression as an mpmath number at the working precision.

    ``values`` gives each free symbol's number by name. Raises :class:`TooLargeError` or :class:`UndefinedError`.
    """
    if not expression.args:
        return _leaf(expression, values)
    if isinstance(expression, sympy.Sum | sympy.Product):
        return _series(expression, values)
    arguments = [numeric(argument, values) for argument in expression.args]
    for operation, function in _OPERATIONS:
        if isinstance(expression, operation):
            return _finite(function(*arguments))
    raise UndefinedError(f"no rule for {type(expression).__name__}")


def _leaf(expression: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(expression, sympy.Symbol) and expression.name in values:
        return values[expression.name]
    if isinstance(expression, sympy.Rational) and expression.q:
        return mpmath.mpf(int(expression.p)) / int(expression.q)
    if isinstance(expression, sympy.Float):
        return mpmath.mpf(str(expression))
    for kind, constant in _CONSTANTS:
        if expression is kind:
            return constant()
    raise UndefinedError(f"{expression} has no value")


_CONSTANTS: list[tuple[Any, Callable[[], Any]]] = [
    (sympy.pi, lambda: +mpmath.pi),
    (sympy.E, lambda: +mpmath.e),
    (sympy.I, lambda: mpmath.mpc(0, 1)),
]


def _finite(value: Any) -> Any:
    if not mpmath.isfinite(value):
        raise UndefinedError("not finite")
    if isinstance(value, mpmath.mpc) and value.imag == 0:
        return value.real
    return value


def _power(base: Any, exponent: Any) -> Any:
    if base == 0:
        if mpmath.re(exponent) <= 0 and exponent != 0:
            raise UndefinedError("division by zero")
        return mpmath.mpf(1 if exponent == 0 else 0)
    if abs(exponent) > MAX_LOG or abs(exponent * mpmath.log(abs(base) + 1)) > MAX_LOG:
        raise TooLargeError("a power is too large to evaluate")
    if _is_real(base) and base < 0 and _is_real(exponent) and (root := _odd_root(exponent)) is not None:
        return root * abs(base) ** exponent
    return mpmath.power(base, exponent)


def _odd_root(exponent: Any) -> int | None:
    """Sign of a negative number's real power p/q with small odd q (the real cube root of -8 is -2), or None."""
    for q in (3, 5, 7, 9, 11):
        p = exponent * q
        if abs(p - mpmath.nint(p)) < mpmath.mpf(10) ** (-DIGITS // 2) and mpmath.nint(p) % q:
            return -1 if int(mpmath.nint(p)) % 2 else 1
    return None


def _is_real(value: Any) -> bool:
    return not isinstance(value, mpmath.mpc) or value.imag == 0


def _whole(value: Any, direction: Callable[[Any], Any]) -> Any:
    if not _is_real(value):
        raise UndefinedError("floor of a complex number")
    nearest = mpmath.nint(value)
    return nearest if abs(value - nearest) < mpmath.mpf(10) ** (-DIGITS // 2) * (1 + abs(value)) else direction(value)


def _gamma(value: Any) -> Any:
    if abs(value) > 10**4:
        raise TooLargeError("a factorial is too large to evaluate")
    return mpmath.factorial(value)


def _binomial_value(top: Any, bottom: Any) -> Any:
    if max(abs(top), abs(bottom)) > 10**5:
        raise TooLargeError("a binomial coefficient is too large to evaluate")
    return mpmath.binomial(top, bottom)


def _log(value: Any, base: Any = None) -> Any:
    if value == 0 or base in (0, 1):
        raise UndefinedError("logarithm of zero")
    return mpmath.log(value) if base is None else mpmath.log(value) / mpmath.log(base)


def _small(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def guarded(value: Any) -> Any:
        if abs(value) > MAX_LOG:
            raise TooLargeError("an argument is too large to evaluate")
        return function(value)

    return guarded


def _product(*factors: Any) -> Any:
    value = mpmath.mpf(1)
    for factor in factors:
        value *= factor
    return value


def _series(expression: Any, values: Mapping[str, Any]) -> Any:
    """Sum or multiply out a finite series of at most 2000 terms."""
    body, limits = expression.args[0], expression.args[1:]
    if len(limits) != 1:
        raise UndefinedError("a sum over several indices")
    index, first, last = limits[0]
    start, stop = (mpmath.nint(numeric(bound, values)) for bound in (first, last))
    if stop - start > 2000:
        raise TooLargeError("a series is too long to evaluate")
    terms = [numeric(body, {**values, index.name: mpmath.mpf(k)}) for k in range(int(start), int(stop) + 1)]
    return sum(terms, mpmath.mpf(0)) if isinstance(expression, sympy.Sum) else _product(*terms)


_OPERATIONS: list[tuple[Any, Callable[..., Any]]] = [
    (sympy.Add, lambda *terms: sum(terms, mpmath.mpf(0))),
    (sympy.Mul, _product),
    (sympy.Pow, _power),
    (sympy.exp, _small(mpmath.exp)),
    (sympy.log, _log),
    (sympy.Abs, abs),
    (sympy.floor, lambda x: _whole(x, mpmath.floor)),
    (sympy.ceiling, lambda x: _whole(x, mpmath.ceil)),
    (sympy.factorial, _gamma),
    (sympy.binomial, _binomial_value),
    (sympy.UnevaluatedExpr, lambda x: x),
    (sympy.Max, max),
    (sympy.Min, min),
    *[
        (getattr(sympy, name), _small(getattr(mpmath, name)))
        for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")
    ],
    *[
        (getattr(sympy, name), getattr(mpmath, name))
        for name in ("asin", "acos", "atan", "acot", "asinh", "acosh", "atanh")
    ],
]
