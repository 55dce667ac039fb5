"""Fixtures that several tests share."""

import multiprocessing
import os
from multiprocessing import forkserver
from pathlib import Path

import pytest

# A thread per test process: their models are tiny, and threads of several processes only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]

START_PROCESSES = ("test_sweep.py", "test_vllm_engine.py", "test_ranks.py", "test_interruption.py", "test_run.py")
"""Files of few and slow tests; they come first, so that at the end no process of pytest waits for another's long file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow files first."""
    items.sort(key=lambda item: item.path.name not in START_PROCESSES)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and references that lies beside the repository; tests that need it are skipped without it."""
    folder = Path(os.environ.get("TTSV_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no data in {folder}: set TTSV_SHARED to the folder that holds data/<task>/test.jsonl")
    return folder


@pytest.fixture(scope="session")
def fork_server() -> None:
    """Start the server that tests fork fresh processes from, torch imported once; it finds its modules through PYTHONPATH alone."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    multiprocessing.get_context("forkserver").set_forkserver_preload(["ranked_runs"])
    forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests keep hashes and conversions out of the user's cache; the embedded model's conversion asks for it back."""
    monkeypatch.setenv("TTSV_TEST_REAL_CACHE", os.environ.get("TTSV_CACHE", ""))
    monkeypatch.setenv("TTSV_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
