"""What is told from the text of a completion alone."""

import pytest

from ttsv.auditing.readings import READINGS
from ttsv.auditing.tool_outputs import tool_outputs
from ttsv.auditing.traits import traits_of


def block(program: str, output: str) -> str:
    return f"Let us compute.\n```python\n{program}\n```\n```output\n{output}\n```\n"


@pytest.mark.parametrize(
    ("program", "output", "status"),
    [
        ("print(26**2 - 24**2)", "100", "agrees"),
        ("print(26**2 - 24**2)", "199920", "contradicts"),
        ("print(0.1 + 0.2)", "0.3", "equal up to rounding"),
        ("print(6 / 2)", "3", "equal up to rounding"),
        ("print(1.0)", "1.0001", "contradicts"),
        ("print((1, 2))", "[1, 2]", "contradicts"),
        ("import sympy\nprint(sympy.pi)", "pi", "not checked"),
        ("a b = 1", "5", "not Python"),
        ("a b = 1", "SyntaxError: invalid syntax", "not checked"),
    ],
)
def test_an_output_is_held_against_the_arithmetic_above_it(program: str, output: str, status: str) -> None:
    (found,) = tool_outputs(block(program, output))
    assert found.status == status


def test_each_output_belongs_to_the_program_right_above_it() -> None:
    text = "```python\nprint(1)\n```\nNo output here.\n" + block("print(2)", "2") + block("print(3)", "4")
    assert [(found.program.strip(), found.status) for found in tool_outputs(text)] == [
        ("print(2)", "agrees"),
        ("print(3)", "contradicts"),
    ]


LONG = " ".join(f"Step {number} is done." for number in range(60)) + " "
"""Beyond a cap of 1000 tokens, and no loop."""


@pytest.mark.parametrize(
    ("text", "present"),
    [
        (r"So it is \boxed{5}.", {"box"}),
        (r"\boxed{5} and then " + "a" * 101, {"box", "goes on after the first box", "goes on after the last box"}),
        (r"\boxed{\frac{1}{2}} or \boxed{3}.", {"box", "several boxes"}),
        (r"\boxed{5", {"box"}),
        (LONG, {"long enough for the cap"}),
        (LONG + r"\[ x = 3 \]", {"long enough for the cap"}),
        (LONG + r"\[ x = \left( 3 \right)", {"long enough for the cap", "truncated (inferred)"}),
        (LONG + "and since", {"long enough for the cap", "truncated (inferred)"}),
        ("and since", set()),
        (LONG + "01" * 200, {"long enough for the cap", "truncated (inferred)", "ends in a loop"}),
        ("```python\nprint(1)\n```", {"Python block", "ends in a code block"}),
        (
            block("print(1)", "1") + "\nReach max function call limit.",
            {"Python block", "output block", "call-limit sentence"},
        ),
    ],
)
def test_a_trait_is_told_by_its_rule(text: str, present: set[str]) -> None:
    assert {name for name, holds in traits_of(text, cap=1000).items() if holds} == present


def test_fewer_bytes_than_the_cap_has_tokens_cannot_be_truncated() -> None:
    text = "é" * 499 + " and"
    assert not traits_of(text, cap=len(text.encode()) + 1)["truncated (inferred)"]
    assert traits_of(text, cap=len(text.encode()))["truncated (inferred)"]


def test_a_cut_keeps_what_comes_before_its_place_and_all_where_there_is_none() -> None:
    first_box, before_output, before_code = (reading.cut for reading in READINGS)
    text = r"Then \boxed{\frac{1}{2}}. " + block("print(1)", "1") + r"So \boxed{1}."
    assert first_box(text) == r"Then \boxed{\frac{1}{2}}"
    assert before_output(text).endswith("print(1)\n```\n")
    assert before_code(text).endswith("Let us compute.\n")
    assert all(reading.cut("plain") == "plain" for reading in READINGS)
