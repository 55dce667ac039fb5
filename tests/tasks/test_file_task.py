"""Rows of a local file become problems; every fault names its file and line."""

import json
import re
from pathlib import Path

import pytest

from ttsv.records import UserError
from ttsv.tasks import Fields, FileTask, HubSource, MultipleChoice

PLAIN = Fields(question="q", gold="a", id="id")


def write(data_dir: Path, *rows: object, name: str = "toy") -> Path:
    path = data_dir / name / "test.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_field_names_alone_make_a_task_even_nested_ones(tmp_path):
    write(tmp_path, {"input": {"text": "1+1?"}, "meta": {"target": 2, "kind": "sum"}, "grade": 3})
    fields = Fields(question="input.text", gold="meta.target", subject="meta.kind", level="grade")
    (problem,) = FileTask("toy", fields).load(tmp_path)
    assert (problem.question, problem.gold, problem.subject, problem.level) == ("1+1?", "2", "sum", "3")
    assert (problem.id, problem.task) == ("0", "toy")


def test_subject_and_level_may_be_null_but_not_misspelt(tmp_path):
    write(tmp_path, {"q": "?", "a": 1, "level": None})
    assert FileTask("toy", Fields(question="q", gold="a", level="level")).load(tmp_path)[0].level is None
    with pytest.raises(UserError, match="no field 'levle'"):
        FileTask("toy", Fields(question="q", gold="a", level="levle")).load(tmp_path)


def test_a_field_whose_own_name_has_a_dot_is_found(tmp_path):
    write(tmp_path, {"q": "?", "a.b": "7", "a": {"b": "8"}})
    assert FileTask("toy", Fields(question="q", gold="a.b")).load(tmp_path)[0].gold == "7"


def test_the_order_of_the_file_is_kept_and_blank_lines_are_passed_over(tmp_path):
    write(tmp_path, {"id": 2, "q": "x", "a": 1}, "", {"id": 1, "q": "y", "a": 1}, "")
    assert [problem.id for problem in FileTask("toy", PLAIN).load(tmp_path)] == ["2", "1"]


def test_a_line_separator_inside_a_question_does_not_end_the_row(tmp_path):
    write(tmp_path, {"id": 1, "q": "a\u2028b\u0085c", "a": 1})
    assert FileTask("toy", PLAIN).load(tmp_path)[0].question == "a\u2028b\u0085c"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ('{"id": 2, "q": "x"', "not JSON"),
        ("[1, 2]", "expected a JSON object, got list"),
        ({"id": 2, "q": "x"}, "no field 'a'; this row has: id, q"),
        ({"id": 2, "a": "x"}, "no field 'q'; this row has: a, id"),
        ({"id": 2, "q": "x", "a": "  "}, "field 'a' holds no gold answer"),
        ({"id": 2, "q": "x", "a": None}, "field 'a' holds no gold answer"),
        ({"id": 2, "q": "x", "a": {"b": 1}}, "expected text or a number, got dict"),
        ({"id": 2, "q": "x", "a": True}, "expected text or a number, got bool"),
        ({"id": 2, "q": " ", "a": 1}, "field 'q' is empty"),
        ({"id": 1, "q": "x", "a": 1}, "duplicate id '1', first used at"),
    ],
)
def test_a_faulty_row_is_an_error_with_file_and_line(tmp_path, bad, says):
    path = write(tmp_path, {"id": 1, "q": "x", "a": 1}, "", bad)
    with pytest.raises(UserError, match=re.escape(f"{path}:3: ")) as caught:
        FileTask("toy", PLAIN).load(tmp_path)
    assert says in str(caught.value)


def test_bytes_that_are_not_utf8_are_an_error_with_file_and_line(tmp_path):
    path = write(tmp_path, {"id": 1, "q": "x", "a": 1})
    path.write_bytes(path.read_bytes() + b'\n{"id": 2, "q": "\xff", "a": 1}')
    with pytest.raises(UserError, match=r"test\.jsonl:2: not UTF-8"):
        FileTask("toy", PLAIN).load(tmp_path)


def test_an_empty_file_is_an_error(tmp_path):
    write(tmp_path)
    with pytest.raises(UserError, match="holds no rows"):
        FileTask("toy", PLAIN).load(tmp_path)


def test_a_missing_file_is_an_error_that_says_where_it_was_looked_for_and_what_else_there_is(tmp_path):
    task = FileTask("toy", PLAIN, HubSource("some/where", "test"))
    for ask in (task.load, task.availability):
        with pytest.raises(UserError) as caught:
            ask(tmp_path)
        assert str(tmp_path / "toy" / "test.jsonl") in str(caught.value)
        assert "some/where" in str(caught.value)


def test_without_a_data_directory_or_hub_data_set_the_error_says_what_to_give():
    with pytest.raises(UserError, match="give data_dir=<folder>"):
        FileTask("toy", PLAIN).load(None)


def test_provenance_changes_with_a_single_byte_and_counts_the_rows(tmp_path):
    write(tmp_path, {"id": 1, "q": "x", "a": 1}, {"id": 2, "q": "y", "a": 1})
    before = FileTask("toy", PLAIN).read(tmp_path).provenance
    path = write(tmp_path, {"id": 1, "q": "x", "a": 1}, {"id": 2, "q": "z", "a": 1})
    after = FileTask("toy", PLAIN).read(tmp_path).provenance
    assert (after["source"], after["path"], after["rows"]) == ("file", str(path), 2)
    assert before["sha256"] != after["sha256"]
    assert before["problems_sha256"] != after["problems_sha256"]


CHOICES = MultipleChoice(distractors=["w1", "w2", "w3"], seed=0)


def choice_rows(n: int = 40) -> list[dict[str, object]]:
    return [{"id": i, "q": f"Q{i}", "a": "right ", "w1": "no", "w2": "nay", "w3": "never"} for i in range(n)]


def test_the_gold_letter_points_at_the_right_option(tmp_path):
    write(tmp_path, *choice_rows())
    problems = FileTask("toy", PLAIN, choices=CHOICES).load(tmp_path)
    for problem in problems:
        lines = problem.question.split("\n")
        assert lines[1] == ""
        assert [line[:3] for line in lines[2:]] == ["(A)", "(B)", "(C)", "(D)"]
        assert f"({problem.gold}) right" in lines
        assert {line[4:] for line in lines[2:]} == {"right", "no", "nay", "never"}
    assert {problem.gold for problem in problems} == set("ABCD")


def test_the_order_of_the_options_depends_on_seed_and_id_but_not_on_the_place_in_the_file(tmp_path):
    task = FileTask("toy", PLAIN, choices=CHOICES)
    write(tmp_path, *choice_rows())
    golds = {problem.id: problem.gold for problem in task.load(tmp_path)}
    write(tmp_path, *reversed(choice_rows()))
    assert {problem.id: problem.gold for problem in task.load(tmp_path)} == golds
    other = FileTask("toy", PLAIN, choices=MultipleChoice(["w1", "w2", "w3"], seed=1))
    assert {problem.id: problem.gold for problem in other.load(tmp_path)} != golds
