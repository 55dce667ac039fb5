"""What each gold rule takes from a field."""

import pytest

from ttsv.tasks.gold import gold_answer, last_box


@pytest.mark.parametrize(
    ("rule", "value", "gold"),
    [
        ("field", r" \frac{1}{2} ", r"\frac{1}{2}"),
        ("field", 27.0, "27"),
        ("field", 0.5, "0.5"),
        ("field", -3, "-3"),
        ("field", "025", "025"),
        ("whole_number", 27.0, "27"),
        ("whole_number", "27.0", "27"),
        ("whole_number", "-1", "-1"),
        ("whole_number", "073", "073"),
        ("whole_number", r"336^\circ", "336"),
        ("whole_number", r"336^{\circ}", "336"),
        ("last_box", r"first \boxed{1}, then $\boxed{\frac{a}{b+{c}}}$.", r"\frac{a}{b+{c}}"),
        ("last_box", r"\boxed{\{1,2\}}", r"\{1,2\}"),
        ("last_box", r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        ("last_box", r"so $\fbox{12}$", "12"),
        ("last_box", r"$\boxed{a+$ $\dot{b}}$", r"a+ \dot{b}"),
        ("last_box", r"\boxed{7} and a torn \boxed{8", "7"),
        ("first_of_list", [r"$\frac{1}{2 n+2}$"], r"\frac{1}{2 n+2}"),
        ("first_of_list", ["$69$,$84$", "1"], "69,84"),
        ("first_of_list", ["2"], "2"),
        ("first_of_list", [r"\$18.90"], r"\$18.90"),
        ("first_of_list", [r"$(-\infty, 0) \cup\{1\}$."], r"(-\infty, 0) \cup\{1\}"),
        ("after_hashes", "so 2 #### not\n#### 1,450,000", "1450000"),
        ("after_hashes", "#### -10", "-10"),
        ("after_hashes", "#### 1,2", "1,2"),
    ],
)
def test_rule_takes(rule, value, gold):
    assert gold_answer(value, rule) == gold


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("whole_number", "2.5"),
        ("whole_number", "x"),
        ("last_box", "no box"),
        ("first_of_list", "2"),
        ("first_of_list", []),
        ("after_hashes", "18"),
        ("field", float("nan")),
        ("no_such_rule", "1"),
    ],
)
def test_rule_refuses_what_it_does_not_fit(rule, value):
    with pytest.raises(ValueError, match=r"expected|no .boxed|unknown"):
        gold_answer(value, rule)


def test_a_text_without_a_closed_box_has_no_last_box():
    assert last_box(r"\boxed{1") is None
