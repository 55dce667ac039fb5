"""Properties: an expression equals its rewritings, never its perturbations; no text breaks the grader."""

from fractions import Fraction

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ttsv.scoring import ChoiceGrader, MathVerifyGrader, ReleaseGrader
from ttsv.scoring.extract import extract
from ttsv.scoring.quantity import read_number

GRADER = MathVerifyGrader()
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=80, deadline=None)

integers = st.integers(-(10**6), 10**6)
positive = st.integers(1, 10**4)
fractions = st.builds(Fraction, integers, positive)


def right(gold: str, answer: str) -> bool:
    return GRADER.grade([gold], [rf"so $\boxed{{{answer}}}$."])[0].correct


def latex(value: Fraction) -> str:
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def spellings(value: Fraction) -> list[str]:
    found = [
        latex(value),
        latex(value).replace("frac", "dfrac"),
        f"{value.numerator}/{value.denominator}",
        rf"\left({latex(value)}\right)",
    ]
    if value.denominator == 1:
        found += [
            f"{value.numerator}",
            f"{value.numerator:,}",
            f"{value.numerator}.0",
            f"{value.numerator:,}".replace(",", ",\\!"),
        ]
    whole, rest = divmod(abs(value), 1)
    if whole and rest:
        found.append(f"{'-' if value < 0 else ''}{whole}\\frac{{{rest.numerator}}}{{{rest.denominator}}}")
    return found


@MANY
@given(fractions, st.data())
def test_a_number_equals_every_spelling_of_it(value: Fraction, data: st.DataObject) -> None:
    gold, answer = (data.draw(st.sampled_from(spellings(value))) for _ in range(2))
    assert right(gold, answer)


@MANY
@given(fractions, fractions.filter(bool), st.data())
def test_a_number_never_equals_another(value: Fraction, change: Fraction, data: st.DataObject) -> None:
    gold, answer = (data.draw(st.sampled_from(spellings(v))) for v in (value, value + change))
    assert not right(gold, answer)


@MANY
@given(st.integers(1, 10**6), st.integers(-40, 40), st.integers(1, 9))
def test_a_scientific_number_is_exact(mantissa: int, exponent: int, change: int) -> None:
    gold = f"{mantissa}e{exponent}"
    assert right(gold, rf"{mantissa} \times 10^{{{exponent}}}")
    assert not right(gold, rf"{mantissa + change} \times 10^{{{exponent}}}")
    assert not right(gold, rf"{mantissa}e{exponent + change}")


@MANY
@given(st.lists(integers, min_size=2, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_order_matters_in_tuples_only(values: list[int], random: object) -> None:
    shuffled = values.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    joined, mixed = ", ".join(map(str, values)), ", ".join(map(str, shuffled))
    assert right(rf"\{{{joined}\}}", rf"\{{{mixed}\}}")
    assert right(joined, mixed)
    assert right(f"({joined})", f"({mixed})") is (values == shuffled)
    assert not right(f"({joined})", rf"\{{{joined}\}}")
    assert not right(joined, ", ".join(map(str, values[:-1])))


@MANY
@given(integers, positive, st.sampled_from("(["), st.sampled_from(")]"), st.sampled_from("(["), st.sampled_from(")]"))
def test_interval_ends_decide(
    low: int, width: int, left: str, right_end: str, other_left: str, other_right: str
) -> None:
    gold, answer = f"{left}{low}, {low + width}{right_end}", f"{other_left}{low},{low + width}{other_right}"
    assert right(gold, answer) is ((left, right_end) == (other_left, other_right))


small = st.integers(-9, 9)
polynomials = st.lists(small, min_size=2, max_size=4).filter(lambda c: any(c[1:]))


def expanded(coefficients: list[int]) -> str:
    terms = [f"{c} x^{{{power}}}" if power else f"{c}" for power, c in enumerate(coefficients)]
    return "+".join(f"({term})" for term in terms)


def nested(coefficients: list[int]) -> str:
    text = f"{coefficients[-1]}"
    for coefficient in reversed(coefficients[:-1]):
        text = rf"\left({text}\right) x + ({coefficient})"
    return text


@QUICK
@given(polynomials, st.integers(0, 3), st.integers(1, 9))
def test_a_polynomial_equals_its_rewriting_and_no_perturbation(
    coefficients: list[int], place: int, change: int
) -> None:
    assert right(expanded(coefficients), nested(coefficients))
    perturbed = coefficients.copy()
    perturbed[place % len(perturbed)] += change
    assert not right(expanded(coefficients), nested(perturbed))


@QUICK
@given(st.integers(1, 40), st.integers(2, 40), st.integers(-20, 20), st.integers(1, 5))
def test_a_surd_equals_its_rewriting_and_no_perturbation(factor: int, radicand: int, shift: int, change: int) -> None:
    gold = rf"{factor}\sqrt{{{radicand}}} + {shift}" if shift >= 0 else rf"{factor}\sqrt{{{radicand}}} - {-shift}"
    assert right(gold, rf"{shift}+\sqrt{{{factor * factor * radicand}}}")
    assert not right(gold, rf"{shift}+\sqrt{{{factor * factor * radicand + change}}}")


@QUICK
@given(st.text(max_size=60))
def test_no_text_breaks_a_grader(text: str) -> None:
    for grader in (GRADER, ReleaseGrader(), ChoiceGrader()):
        for completion in (text, rf"\boxed{{{text}}}", f"The answer is {text}"):
            verdict = grader.grade(["A" if isinstance(grader, ChoiceGrader) else r"\frac{1}{2}"], [completion])[0]
            assert verdict.flag in ("ok", "no_answer", "unparsed")


LATEX = st.lists(st.sampled_from([r"\frac", "{", "}", "(", ")", "1", "x", "^", "_", r"\sqrt", ",", "+", "-", r"\{", r"\}", "[", "]", r"\pm", "=", "<", r"\text{a}", r"\begin{pmatrix}", r"\end{pmatrix}", "&", r"\\", "|", "!", r"\pi", r"\cup", r"\infty", "%", "$"]), max_size=14)  # fmt: skip  # noqa: E501


@settings(max_examples=250, deadline=None)
@given(LATEX)
def test_no_latex_breaks_the_grader(tokens: list[str]) -> None:
    verdict = GRADER.grade([r"\frac{x}{2}"], [r"\boxed{" + "".join(tokens) + "}"])[0]
    assert verdict.flag in ("ok", "no_answer", "unparsed", "timeout"), verdict


@MANY
@given(st.text(alphabet=st.characters(exclude_characters="\\{}<"), max_size=200), fractions)
def test_the_box_is_found_in_any_surroundings(noise: str, value: Fraction) -> None:
    assert extract(rf"{noise}\boxed{{{latex(value)}}}{noise}").answer == latex(value)


@MANY
@given(fractions)
def test_read_number_inverts_its_spelling(value: Fraction) -> None:
    assert all(
        read_number(text.replace(r"\left(", "(").replace(r"\right)", ")").replace("\\!", "").replace("dfrac", "frac"))
        == value
        for text in spellings(value)[:3]
    )
