"""What a program of plain arithmetic prints, read from its syntax tree: nothing is executed.

Only assignments, ``print`` and arithmetic on numbers and tuples or lists of them are read, in bounded size; everything else is
refused. Enough for part of the programs that models write, and safe on all of them.
"""

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

MAX_CHARACTERS = 5000
MAX_POWER, MAX_BASE, MAX_COUNT = 300, 10**6, 300


class NotArithmeticError(Exception):
    """The program holds more than arithmetic, or does not come to an end that this reader can tell."""


_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_BUILTINS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function for function in (abs, round, min, max, sum, len, int, float)
}
_MATH = {
    function.__name__: function
    for function in (
        *(math.sqrt, math.exp, math.log, math.hypot, math.floor, math.ceil, math.gcd, math.factorial, math.comb),
        *(math.sin, math.cos, math.tan, math.asin, math.acos, math.atan, math.atan2, math.radians, math.degrees),
    )
}
_COUNTING = frozenset({"factorial", "comb"})


def printed(program: str) -> str:
    """Return what ``program`` prints, without the last line end.

    Raises:
        NotArithmeticError: if it is more than arithmetic or too large, fails, or prints nothing.
        SyntaxError: if it is not Python.
    """
    if len(program) > MAX_CHARACTERS:
        raise NotArithmeticError("too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in the program's strings
            tree = ast.parse(program)
        lines = _lines(tree)
    except (ArithmeticError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise NotArithmeticError(f"{type(error).__name__}: {error}") from error
    if not lines:
        raise NotArithmeticError("prints nothing")
    return "\n".join(lines)


def _lines(tree: ast.Module) -> list[str]:
    values: dict[str, Any] = {}
    lines: list[str] = []
    for statement in tree.body:
        if isinstance(statement, ast.Import) and [alias.name for alias in statement.names] == ["math"]:
            continue
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            _assign(statement.targets[0], _value(statement.value, values), values)
        elif isinstance(statement, ast.Expr) and (arguments := _print_arguments(statement.value)) is not None:
            lines.append(" ".join(str(_value(argument, values)) for argument in arguments))
        else:
            raise NotArithmeticError(f"{type(statement).__name__} in line {statement.lineno}")
    return lines


def _print_arguments(node: ast.expr) -> list[ast.expr] | None:
    is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    return node.args if is_print and isinstance(node, ast.Call) and not node.keywords else None


def _assign(target: ast.expr, value: Any, values: dict[str, Any]) -> None:
    if isinstance(target, ast.Name) and target.id not in _BUILTINS:
        values[target.id] = value
    elif isinstance(target, ast.Tuple) and isinstance(value, tuple) and len(value) == len(target.elts):
        for part, item in zip(target.elts, value, strict=True):
            _assign(part, item, values)
    else:
        raise NotArithmeticError(f"{type(target).__name__} assigned to")


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.Name) and node.id in values:
        return values[node.id]
    if isinstance(node, ast.Tuple | ast.List):
        items = [_value(item, values) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _number(_UNARY[type(node.op)](_number(_value(node.operand, values))))
    if isinstance(node, ast.BinOp):
        return _operation(node.op, _number(_value(node.left, values)), _number(_value(node.right, values)))
    if isinstance(node, ast.Call) and not node.keywords:
        return _call(node.func, [_value(argument, values) for argument in node.args])
    if (name := _of_math(node)) in ("pi", "e"):
        return getattr(math, name)
    raise NotArithmeticError(type(node).__name__)


def _number(value: Any) -> int | float:
    if type(value) not in (int, float) or (isinstance(value, int) and abs(value).bit_length() > 10_000):
        raise NotArithmeticError("not a number of bounded size")
    return value  # type: ignore[no-any-return]


def _operation(kind: ast.operator, left: int | float, right: int | float) -> Any:
    if isinstance(kind, ast.Pow):
        if abs(right) > MAX_POWER or abs(left) > MAX_BASE:
            raise NotArithmeticError("a power beyond the bounds")
        return _number(left**right)
    if type(kind) not in _BINARY:
        raise NotArithmeticError(type(kind).__name__)
    return _number(_BINARY[type(kind)](left, right))


def _call(function: ast.expr, arguments: list[Any]) -> Any:
    if isinstance(function, ast.Name) and function.id in _BUILTINS:
        return _BUILTINS[function.id](*arguments)
    name = _of_math(function)
    if name not in _MATH or (name in _COUNTING and any(_number(argument) > MAX_COUNT for argument in arguments)):
        raise NotArithmeticError("a call beyond arithmetic")
    return _MATH[name](*arguments)


def _of_math(node: ast.expr) -> str:
    is_math = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "math"
    return node.attr if is_math and isinstance(node, ast.Attribute) else ""
