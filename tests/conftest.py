"""Fixtures that several tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and references that lies beside the repository; tests that need it are skipped without it."""
    folder = Path(os.environ.get("TTSV_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no data in {folder}: set TTSV_SHARED to the folder that holds data/<task>/test.jsonl")
    return folder
