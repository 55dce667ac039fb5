"""Which field of a data set's row is what: the whole of what a new task has to state."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ttsv.records import Problem, UserError
from ttsv.tasks.choices import MultipleChoice
from ttsv.tasks.gold import GoldRule, as_text, gold_answer

Row = Mapping[str, object]
_MISSING = object()


@dataclass(frozen=True)
class Fields:
    """Names of the fields of a row; a dotted name (``reward_model.ground_truth``) reaches into nested objects.

    ``gold_from`` says how the gold answer is taken from the field ``gold``: ``field`` (as it stands), ``whole_number``
    (``27.0`` is ``27``), ``last_box`` (the last ``\\boxed{...}`` of a solution), ``first_of_list``, ``after_hashes``
    (GSM8K's ``#### 18``). Without ``id`` a problem is named by its row number, counted from 0.
    """

    question: str
    gold: str
    gold_from: GoldRule = "field"
    id: str | None = None
    subject: str | None = None
    level: str | None = None

    def problem(self, row: Row, number: int, task: str, choices: MultipleChoice | None, where: str) -> Problem:
        """The problem in ``row``, the ``number``-th of its source; raises ``UserError`` that begins with ``where``."""
        identifier = str(number) if self.id is None else _text(row, self.id, where)
        question = _text(row, self.question, where)
        gold = self._gold(row, where)
        if choices is not None:
            distractors = [_text(row, name, where) for name in choices.distractors]
            question, gold = choices.arrange(question, gold, distractors, identifier)
        return Problem(
            id=identifier,
            question=question,
            gold=gold,
            task=task,
            subject=_text_or_null(row, self.subject, where),
            level=_text_or_null(row, self.level, where),
        )

    def _gold(self, row: Row, where: str) -> str:
        value = _value(row, self.gold, where)
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            raise UserError(
                f"{where}: field {self.gold!r} holds no gold answer (got {value!r}); mend or remove the row"
            )
        try:
            gold = gold_answer(value, self.gold_from)
        except ValueError as error:
            raise UserError(f"{where}: gold answer in field {self.gold!r} (rule {self.gold_from}): {error}") from error
        if not gold:
            raise UserError(f"{where}: field {self.gold!r} yields an empty gold answer under rule {self.gold_from}")
        return gold


def problems_of(
    rows: Iterable[tuple[str, Row]], fields: Fields, task: str, choices: MultipleChoice | None
) -> list[Problem]:
    """A problem for each ``(where, row)``; raises ``UserError`` at the first faulty row or repeated id."""
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for number, (where, row) in enumerate(rows):
        problem = fields.problem(row, number, task, choices, where)
        if problem.id in seen:
            raise UserError(
                f"{where}: duplicate id {problem.id!r}, first used at {seen[problem.id]}; ids must be unique"
            )
        seen[problem.id] = where
        problems.append(problem)
    return problems


def _value(row: Row, name: str, where: str) -> object:
    # A field whose own name has a dot in it wins over the nested reading.
    if name in row:
        return row[name]
    value: object = row
    for part in name.split("."):
        value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is _MISSING:
            existing = ", ".join(sorted(map(str, row))) or "none"
            raise UserError(
                f"{where}: no field {name!r}; this row has: {existing}. Set the task's field names accordingly"
            )
    return value


def _text_or_null(row: Row, name: str | None, where: str) -> str | None:
    # The field must exist, so that a misspelt name is noticed; a row may leave it open.
    return None if name is None or _value(row, name, where) is None else _text(row, name, where)


def _text(row: Row, name: str, where: str) -> str:
    try:
        text = as_text(_value(row, name, where))
    except ValueError as error:
        raise UserError(f"{where}: field {name!r}: {error}") from error
    if not text.strip():
        raise UserError(f"{where}: field {name!r} is empty; mend or remove the row")
    return text
