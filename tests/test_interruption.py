"""SIGKILL at any moment, the same command again: bit for bit the result of an uninterrupted run, with nothing done twice."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import killed_runs
import pandas as pd
import pytest
from safetensors.torch import load_file

from ttsv.store import read_manifest

pytestmark = pytest.mark.usefixtures("fork_server")


def start(results: Path, recipe: str, kill_at: int | None = None) -> Any:
    """Start one attempt in a fresh process that shares nothing with this one."""
    arguments = (str(results), recipe, kill_at)
    process = multiprocessing.get_context("forkserver").Process(target=killed_runs.run, args=arguments)
    process.start()
    return process


def finish(process: Any) -> int:
    process.join(120)
    assert process.exitcode is not None
    return int(process.exitcode)


def only(folder: Path, kind: str) -> Path:
    (found,) = [p for p in (folder / kind).iterdir() if not p.name.startswith(".")]
    read_manifest(found)
    return found


def outcome(results: Path) -> tuple[Any, ...]:
    """Everything that a run gives, without what tells how long it took."""
    adapted, generated = only(results, "adapt"), only(results, "generate")
    history = [json.loads(line) for line in (adapted / "history.jsonl").read_text().splitlines()]
    for row in history:
        del row["seconds_rollout"], row["seconds_loss"]
    vectors = {
        p.name: load_file(p)["soft_prompt"].numpy().tobytes()
        for p in [adapted / "vector.safetensors", *sorted((adapted / "kept").iterdir())]
    }
    completions = pd.read_parquet(generated / "completions.parquet")
    completions["token_ids"] = completions["token_ids"].map(tuple)
    return vectors, history, completions.to_dict("records"), sorted(read_manifest(adapted)["files"])


@pytest.mark.parametrize("recipe", ["corrected", "paper", "corrected, rollouts at once: 3"])
def test_a_run_killed_at_any_write_ends_as_if_it_had_not_been(tmp_path: Path, recipe: str) -> None:
    assert finish(start(tmp_path / "whole", recipe)) == 0
    expected = outcome(tmp_path / "whole")
    assert len(expected[1]) == (4 if recipe == "paper" else 8)
    moments, deaths = random.Random(recipe), 0
    kill_at = 7
    while finish(start(tmp_path / "killed", recipe, kill_at)) != 0:
        kill_at = 4 if deaths == 0 else moments.choice([4, 7, 11, 16])
        deaths += 1
        assert deaths < 40
    assert deaths >= 2
    assert outcome(tmp_path / "killed") == expected


def test_a_run_killed_by_the_clock_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    assert finish(start(tmp_path / "whole", "corrected")) == 0
    began = time.perf_counter()
    assert finish(start(tmp_path / "again", "corrected")) == 0
    duration, moments = time.perf_counter() - began, random.Random(4)
    for _ in range(5):
        process = start(tmp_path / "killed", "corrected")
        time.sleep(moments.uniform(0.2, 0.7) * duration)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        finish(process)
    assert finish(start(tmp_path / "killed", "corrected")) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "again") == outcome(tmp_path / "whole")


def test_two_processes_at_once_give_one_result(tmp_path: Path) -> None:
    processes = [start(tmp_path / "shared", "corrected") for _ in range(2)]
    assert [finish(p) for p in processes] == [0, 0]
    assert finish(start(tmp_path / "whole", "corrected")) == 0
    assert outcome(tmp_path / "shared") == outcome(tmp_path / "whole")
    assert not list((tmp_path / "shared").rglob(".work-*"))
