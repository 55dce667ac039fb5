"""Output blocks that follow a program in a completion, compared with what the program's arithmetic gives.

A block that contradicts the arithmetic was not printed by an interpreter that ran the program above it. A block that agrees proves
nothing: a model may calculate well.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from ttsv.auditing.arithmetic import NotArithmeticError, printed

Status = Literal["agrees", "equal up to rounding", "contradicts", "not Python", "not checked"]
_PAIR = re.compile(
    r"```python[ \t]*\r?\n(?P<program>(?:(?!```).)*?)```\s*```output[ \t]*\r?\n(?P<output>(?:(?!```).)*?)```", re.S
)
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_ROUNDING = 1e-9
"""Relative difference up to which two printed numbers may differ by rounding alone, as between mathematical libraries."""


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """One program with the output block below it.

    ``computed`` is what its arithmetic prints, the parser's message where it does not parse, None where it is more than arithmetic.
    ``not Python``: it does not parse (by the Python that runs the audit), and ``output`` is no report of that.
    """

    program: str
    output: str
    computed: str | None
    status: Status


def tool_outputs(text: str) -> list[ToolOutput]:
    """Return the pairs of program and output block of a completion, in order."""
    return [_checked(match["program"].replace("\r\n", "\n"), match["output"].strip()) for match in _PAIR.finditer(text)]


def _checked(program: str, output: str) -> ToolOutput:
    try:
        computed = printed(program).strip()
    except NotArithmeticError:
        return ToolOutput(program, output, None, "not checked")
    except SyntaxError as error:
        # An interpreter that was given such a program prints just that.
        claimed = any(name in output for name in ("SyntaxError", "IndentationError", "TabError"))
        message = f"{type(error).__name__}: {error.msg}"
        return ToolOutput(program, output, message, "not checked" if claimed else "not Python")
    return ToolOutput(program, output, computed, _compare(computed, output))


def _compare(computed: str, output: str) -> Status:
    if computed == output:
        return "agrees"
    ours, theirs = _NUMBER.findall(computed), _NUMBER.findall(output)
    same_shape = _NUMBER.sub("#", computed) == _NUMBER.sub("#", output) and len(ours) == len(theirs)
    close = same_shape and all(
        math.isclose(float(a), float(b), rel_tol=_ROUNDING) for a, b in zip(ours, theirs, strict=True)
    )
    return "equal up to rounding" if close else "contradicts"
