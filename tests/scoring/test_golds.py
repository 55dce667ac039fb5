"""The gold answers of the six data sets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scoring.conftest import read_jsonl
from ttsv.scoring import MathVerifyGrader
from ttsv.scoring.extract import extract
from ttsv.scoring.normalize import UnreadableError, normalize
from ttsv.scoring.quantity import read_number
from ttsv.scoring.reading import read

GOLDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "aime24": lambda row: str(row["answer"]),
    "amc23": lambda row: str(row["answer"]),
    "math500": lambda row: row["answer"],
    "gsm8k": lambda row: row["answer"].split("####")[1].strip(),
    "minerva_math": lambda row: extract(row["solution"]).answer or "",
    "olympiadbench": lambda row: row["final_answer"][0],
}
# Golds that are not expressions: compared as text, which is an exact rule.
TEXT_ONLY = {
    r"$f(x)=a x+b$, where $b$ is an arbitrary integer, and $a$ is an arbitrary positive integer with $\mho(a)=0$": (
        "a formula and a sentence about its letters"
    )
}


def golds(shared: Path, name: str) -> list[str]:
    path = shared / "data" / name / "test.jsonl"
    if not path.is_file():
        pytest.skip(f"no data set at {path}")
    return sorted({GOLDS[name](row) for row in read_jsonl(path)})


@pytest.mark.parametrize("name", GOLDS)
def test_every_gold_equals_itself(shared: Path, name: str, grader: MathVerifyGrader) -> None:
    answers = golds(shared, name)
    verdicts = grader.grade(answers, [rf"\boxed{{{answer}}}" for answer in answers])
    assert [v for v in verdicts if not v.correct or v.flag != "ok"] == []


@pytest.mark.parametrize("name", GOLDS)
def test_every_gold_is_read_and_parsed(shared: Path, name: str, grader: MathVerifyGrader) -> None:
    failures = []
    for gold in golds(shared, name):
        if gold in TEXT_ONLY:
            continue
        try:
            read(normalize(gold))
        except UnreadableError as error:
            failures.append((gold, str(error)))
        if read_number(normalize(gold)) is not None:
            continue
        judged = grader.compare(gold, r"\sqrt{2}\cdot 987654321")
        if judged.flag != "ok" or judged.correct:
            failures.append((gold, judged))
    assert failures == []


def test_no_gold_equals_the_next_number(shared: Path, grader: MathVerifyGrader) -> None:
    numbers = [gold for gold in golds(shared, "gsm8k") + golds(shared, "aime24") if gold.replace(",", "").isdigit()]
    others = [rf"\boxed{{{int(gold.replace(',', '')) + 1}}}" for gold in numbers]
    assert not any(verdict.correct for verdict in grader.grade(numbers, others))


def test_small_physical_constants_are_told_apart(shared: Path, grader: MathVerifyGrader) -> None:
    tiny = [gold for gold in golds(shared, "minerva_math") if "e-" in gold and json.dumps(gold).count("\\") == 0]
    assert len(tiny) > 15
    pairs = [(a, b) for a in tiny for b in tiny if a != b]
    verdicts = grader.grade([a for a, _ in pairs], [rf"\boxed{{{b}}}" for _, b in pairs])
    equal = [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.correct]
    assert all(float(a) == float(b) for a, b in equal)
