"""Programs read as arithmetic: what they print, and what is refused."""

import contextlib
import io

import pytest

from ttsv.auditing.arithmetic import NotArithmeticError, printed

PROGRAMS = (
    "print(7 // 2, -7 % 3, 2**10, 1 / 3)",
    "import math\nr = math.sqrt(3**2 + 4**2)\nprint(r)\nprint((r, math.atan2(1, 0)))",
    "a, b = 3, 4.5\nvalues = [a, b, -1]\nprint(max(values), sum(values), round(b / a, 2), len(values))",
    "x = 10\nx = x + 0.1\nprint(x * 3, [x, (x, 1)])",
    "import math\nprint(math.comb(10, 3), math.factorial(20), math.gcd(12, 18), int(3.99), float(2))",
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_arithmetic_prints_what_python_prints(program: str) -> None:
    expected = io.StringIO()
    with contextlib.redirect_stdout(expected):
        exec(program, {})  # our own programs above, no model's
    assert printed(program) == expected.getvalue().rstrip("\n")


@pytest.mark.parametrize(
    "program",
    [
        "import os\nprint(1)",
        "from math import sqrt\nprint(sqrt(4))",
        "print(open('/etc/passwd').read())",
        "print(().__class__)",
        "for i in range(9): print(i)",
        "def f(): return 1\nprint(f())",
        "print('text')",
        "print(2**10**10)",
        "x = 10**300\nprint(x**300)",
        "import math\nprint(math.factorial(10**9))",
        "print([0] * 10**12)",
        "print(1 / 0)",
        "print(undefined)",
        "print(1, end='')",
        "abs = 3\nprint(abs)",
        "x = 5",
        "print(" + "(" * 150 + "1" + ")" * 150 + ")" + " " * 5000,
        "print(" + "-" * 3000 + "1)",
    ],
)
def test_what_is_more_than_bounded_arithmetic_is_refused(program: str) -> None:
    with pytest.raises(NotArithmeticError):
        printed(program)
