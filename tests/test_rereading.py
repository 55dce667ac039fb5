"""Reading responses again: cuts are what smaller caps give, and lenient readings find failures of format and nothing else."""

from pathlib import Path

import pandas as pd
import pytest
from tiny_models import ids_of, tiny_lm

from ttsv.records import Problem
from ttsv.rereading import REREAD, caps_below, cut, lenient, reread
from ttsv.scoring import MathVerifyGrader
from ttsv.store import Store, once, write_json

TEXTS = {
    "boxed": r"so it is \boxed{4}.",
    "unboxed": "2 + 2 makes 4",
    "formula": r"hence $x = \frac{8}{2}$, as asked.",
    "ran on": r"\boxed{4}. Next question: 3 + 3. \boxed{6}",
    "wrong": r"it is \boxed{5}",
    "wrong number last": "4 is not 5",
    "none": "I cannot tell.",
}


@pytest.fixture
def found(tmp_path: Path) -> pd.DataFrame:
    lm = tiny_lm()
    store = Store(tmp_path)
    rows = []
    for name, text in TEXTS.items():
        ids = [*ids_of(lm, text), lm.tokenizer.eos_token_id]
        rows.append(
            {
                "problem_id": name,
                "sample": 0,
                "text": text,
                "token_ids": ids,
                "finish_reason": "stop",
                "tokens": len(ids),
            }
        )

    def generated(work: Path) -> None:
        pd.DataFrame(rows).to_parquet(work / "completions.parquet")
        decoding = {"sampling": {"max_new_tokens": 100}, "stopping": {"batch_strings": []}}
        write_json(work / "metrics.json", {"decoding": decoding})

    generation = once(store.stage("generate", "g", {"key": 1}), generated, dict).stage
    problems = [Problem(name, "2 + 2 =", "4", "sums") for name in TEXTS]
    done = reread(store, generation, problems, MathVerifyGrader(), lm.decode, dict)
    assert reread(store, generation, problems, MathVerifyGrader(), lm.decode, dict).reused
    return pd.read_parquet(done.stage.path / REREAD)


def test_lenient_readings_find_the_answers_that_only_their_form_hid(found: pd.DataFrame) -> None:
    leniently = found[found["reading"] != "cap"].set_index("problem_id")
    assert dict(leniently["reading"]) == {
        "unboxed": "last expression",
        "formula": "last expression",
        "ran on": "first box",
        "wrong number last": "last expression",
    }
    assert dict(leniently["correct"]) == {"unboxed": True, "formula": True, "ran on": True, "wrong number last": False}


def test_a_cap_grades_what_the_first_tokens_say(found: pd.DataFrame) -> None:
    caps = found[found["reading"] == "cap"].set_index(["problem_id", "cap"])
    assert sorted({cap for _, cap in caps.index}) == [16, 32, 64, 100]
    # A token is a byte here: the box of "ran on" is closed after 9, and the second one after 42.
    assert [bool(caps.loc[("ran on", cap), "correct"]) for cap in (16, 32, 64, 100)] == [True, True, False, False]
    assert [bool(caps.loc[("boxed", cap), "correct"]) for cap in (16, 32, 64, 100)] == [False, True, True, True]
    assert [bool(caps.loc[("boxed", cap), "truncated"]) for cap in (16, 32)] == [True, False]
    assert caps.loc[("boxed", 16), "tokens"] == 16
    assert caps.loc[("boxed", 32), "tokens"] == len(TEXTS["boxed"]) + 1


def test_a_response_that_ends_at_the_cap_is_not_cut() -> None:
    row = {"token_ids": [1, 2, 3], "text": "abc", "finish_reason": "stop"}
    assert cut(row, 3, lambda ids: "cut", ()) == ("abc", False)
    assert cut(row, 2, lambda ids: "cut", ()) == ("cut", True)
    assert cut(row, 2, lambda ids: "so</s>on", ("</s>",)) == ("so", True)
    assert cut({**row, "finish_reason": "length"}, 5, lambda ids: "cut", ()) == ("abc", True)


def test_caps_are_powers_of_two_below_that_of_the_run() -> None:
    assert caps_below(3072) == [16, 32, 64, 128, 256, 512, 1024, 2048]
    assert caps_below(64) == [16, 32]
    assert caps_below(6) == []


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("costs 1,250 in all", "1,250"),
        ("so x is -3/4", "-3/4"),
        (r"first 7, then $y = 2$", "y = 2"),
        (r"$y = 2$, then 7", "7"),
        (r"an open \boxed{3", "3"),
    ],
)
def test_the_last_expression_is_the_last_formula_or_number(text: str, read: str) -> None:
    assert lenient(text) == ("last expression", f"\\boxed{{{read}}}")
