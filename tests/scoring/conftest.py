"""Fixtures of the grading tests: the shared files, which are not part of the repository, and cases kept as data."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ttsv.scoring import MathVerifyGrader

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY / "tests" / "data"
RELEASED_MODELS = ("qwen2.5-math-1.5b_math500", "qwen2.5-math-7b_math500")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def grading_cases() -> list[dict[str, Any]]:
    """The rows of ``tests/data/grading_cases.jsonl``."""
    return read_jsonl(DATA / "grading_cases.jsonl")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared files: ``TTSV_SHARED``, else ``shared`` beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("TTSV_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared files: set TTSV_SHARED (looked at {folder})")
    return folder


@pytest.fixture(scope="session")
def released(shared: Path) -> list[dict[str, Any]]:
    """The 1000 released completions with their verdicts, ``model`` added to each row."""
    rows = []
    for model in RELEASED_MODELS:
        path = shared / "reference" / "ttsv_release" / model / "completions.jsonl"
        if not path.is_file():
            pytest.skip(f"no released completions at {path}")
        rows += [{**row, "model": model} for row in read_jsonl(path)]
    return rows


@pytest.fixture(scope="session")
def grader() -> MathVerifyGrader:
    """The standard grader with its defaults, its worker running."""
    grader = MathVerifyGrader()
    grader.grade(["x+1"], [r"\boxed{1+x}"])
    return grader
