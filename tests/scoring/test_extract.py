"""Extraction, and the graders' simple promises."""

import pytest

from ttsv.scoring import ChoiceGrader, MathVerifyGrader, ReleaseGrader
from ttsv.scoring.extract import extract


@pytest.mark.parametrize(
    ("text", "answer", "source"),
    [
        (r"\boxed{1} \boxed{2}", "2", "box"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", "box"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}", "box"),
        (r"\boxed{1} \boxed{2", None, "box"),
        (r"\boxed{1}</think> nothing", None, "none"),
        (r"</think>\boxed{1}</think> the answer is 3.5.", "3.5", "sentence"),
        ("The answer is $x^2$, since it is.", "x^2", "sentence"),
        ("An answer was not found: 5", None, "none"),
        ("#### 1,200", "1,200", "sentence"),
        ("", None, "none"),
    ],
)
def test_the_answer_is_where_the_conventions_say(text: str, answer: str | None, source: str) -> None:
    extraction = extract(text)
    assert (extraction.answer, extraction.source) == (answer, source)
    assert extraction.why


def test_a_choice_is_read_off_whatever_its_dress() -> None:
    grader = ChoiceGrader(options="ABCD")
    texts = [
        "The answer is B",
        r"\boxed{B}",
        r"\boxed{\text{(B)}}",
        r"\boxed{(b) 42}",
        r"\boxed{C}",
        r"\boxed{7}",
        "no",
        r"\boxed{E}",
    ]
    verdicts = grader.grade(["B"] * len(texts), texts)
    assert [verdict.correct for verdict in verdicts] == [True] * 4 + [False] * 4
    assert [verdict.flag for verdict in verdicts] == ["ok"] * 5 + ["unparsed", "no_answer", "unparsed"]
    assert grader.grade(["42"], [r"\boxed{A}"])[0].flag == "error"


def test_a_tolerance_holds_only_where_it_is_stated() -> None:
    close = (["3.00e8", r"\frac{1}{3}", r"\pi"], [r"\boxed{2.998\times 10^8}", r"\boxed{0.3333}", r"\boxed{3.1416}"])
    assert not any(verdict.correct for verdict in MathVerifyGrader().grade(*close))
    assert all(verdict.correct for verdict in MathVerifyGrader(relative_tolerance=1e-2).grade(*close))
    assert not MathVerifyGrader(relative_tolerance=1e-2).grade(["1.6e-19"], [r"\boxed{9.1e-31}"])[0].correct


def test_the_release_rule_keeps_its_habits() -> None:
    grader = ReleaseGrader()
    texts = [r"\boxed{0.5}", r"\boxed{(1,2]}", r"\boxed{2,1}", "so it is 7", r"\boxed{\frac{2}{4}}"]
    verdicts = grader.grade(["50", "(1,2)", "1,2", "7", "0.5"], texts)
    assert [verdict.correct for verdict in verdicts] == [True, True, False, True, True]


def test_graders_refuse_lists_of_different_length() -> None:
    with pytest.raises(ValueError, match="zip"):
        MathVerifyGrader().grade(["1"], [])
