"""Sweeps in other processes: every cell's end reaches the sweep's, a lost worker loses its cell alone, two sweeps never mix."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from test_run import records, setting
from tiny_models import CONF

from ttsv import launchers, sweep
from ttsv.sweep import End

LOST = "_target_: lost_workers.Lost\n"
PACKAGES = {"ray": "ray", "submitit_local": "submitit"}


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a sweep as a user does, in a process group of its own."""
    places = [str(Path(__file__).parent), str(CONF.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "TTSV_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "ttsv.run", "-m", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background jobs ignore it, and hand that on
    )


def words_for(folder: Path) -> list[str]:
    words = setting(folder)
    (folder / "conf" / "method").mkdir(parents=True)
    (folder / "conf" / "method" / "lost.yaml").write_text(LOST)
    return words


@pytest.mark.parametrize("launcher", ["joblib", *(pytest.param(name, marks=pytest.mark.slow) for name in PACKAGES)])
def test_a_lost_worker_loses_its_cell_alone_and_all_failures_are_named_at_the_end(
    tmp_path: Path, launcher: str
) -> None:
    if launcher in PACKAGES and not find_spec(PACKAGES[launcher]):
        pytest.skip(f"{PACKAGES[launcher]} is not installed; it belongs to an extra")
    words = [
        *words_for(tmp_path),
        "method=lost,none,released_vector",
        "vector=/nowhere.pt",
        f"hydra/launcher={launcher}",
    ]
    if launcher == "joblib":
        words += ["hydra.launcher.n_jobs=1"]  # the one worker is lost, and replaced
    if launcher == "ray":
        words += ["seed=15,16", "hydra.launcher.ray.init.num_cpus=2"]
    out, err = (sweeping := start(tmp_path, *words)).communicate(timeout=600)
    if "node timed out during startup" in err:
        pytest.skip("Ray could not be started within its 30 seconds on this machine")
    assert sweeping.returncode == 2, err
    seeds = (15, 16) if "seed=15,16" in words else (15,)
    assert set(records(tmp_path / "results")) == {("none", seed) for seed in seeds}
    assert out.count("## tiny on mine, 6 problems") == 1
    listed = err.partition(" failed; the same command tries again:")[2]
    assert f"{2 * len(seeds)} cells failed" in err
    assert listed.count("the process that ran this cell was lost") == 1
    assert listed.count("no vector at /nowhere.pt") == 1
    assert listed.count("method=lost") == listed.count("method=released_vector") == len(seeds)
    assert "task=mine" not in listed  # what all cells share does not tell them apart


@pytest.mark.slow
def test_an_interrupted_sweep_ends_and_leaves_no_worker_behind(tmp_path: Path) -> None:
    words = [*words_for(tmp_path), "method=ttsv", "seed=15,16", "scale.updates=100000", "hydra/launcher=joblib"]
    sweeping = start(tmp_path, *words)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "results" / "stages" / "adapt").glob(".work-*/unfinished")) and sweeping.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.kill(sweeping.pid, signal.SIGINT)
    _, err = sweeping.communicate(timeout=120)
    assert sweeping.returncode == 130, err
    assert "interrupted; the same command goes on from the last checkpoint" in err
    left = subprocess.run(["ps", "-o", "stat=", "-g", str(sweeping.pid)], capture_output=True, text=True, check=False)
    assert [state for state in left.stdout.split() if not state.startswith("Z")] == []


def test_failures_are_grouped_by_their_message() -> None:
    ends = [End("seed=1", "no file"), End("seed=2", None), End("seed=3", "two\nlines"), End("seed=4", "no file")]
    assert sweep.grouped(ends) == "  no file\n    seed=1\n    seed=4\n  two\n  lines\n    seed=3"


def test_every_sweep_has_a_directory_of_its_own() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = set()
        for _ in range(2):
            config = compose("config", return_hydra_config=True)
            found.add(config.hydra.sweep.dir)
            assert config.hydra.sweep.dir in found  # however often it is asked for
    assert len(found) == 2


def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put commands of Slurm's names first in the path: ``sbatch`` keeps the script, ``srun`` only has to exist."""
    (folder / "bin").mkdir()
    for name, text in {"sbatch": f'cp "$1" {folder}/script; echo Submitted batch job 7', "srun": "true"}.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_submitit_takes_the_slurm_preset_and_asks_for_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="submitit belongs to the extra ttsv[slurm]")
    slurm(tmp_path, monkeypatch)
    launchers.register()
    changed = ["hydra.launcher.partition=fast", "+hydra.launcher.mail_user=me", f"results_dir={tmp_path}", "study=mine"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["hydra/launcher=submitit_slurm", *changed], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        launcher = Plugins.instance()._instantiate(config.hydra.launcher)
    assert isinstance(launcher, launchers.SubmititLauncher)
    jobs = [launchers.Job(None, print, {}, tmp_path)] * 9  # type: ignore[arg-type]
    submitted = launcher._submitted(jobs)
    assert [job.job_id for job in submitted] == [f"7_{number}" for number in range(9)]
    script = (tmp_path / "script").read_text()
    for line in ("array=0-8%8", "gpus-per-node=1", "cpus-per-task=8", "mem=64GB", "time=720", "partition=fast",
                 "mail-user=me", "job-name=ttsv-mine"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in script, line


def test_a_launcher_whose_package_is_missing_says_which_extra_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    launcher = launchers.SubmititLauncher("slurm", str(tmp_path))
    with pytest.raises(launchers.UserError, match=r"ttsv\[slurm\]: .*uv pip install .*-c requirements.lock submitit"):
        next(launcher.carry_out([]))


@pytest.mark.slow
def test_a_sweep_whose_cells_are_all_fine_leaves_nothing_but_results(tmp_path: Path) -> None:
    out, err = (sweeping := start(tmp_path, *words_for(tmp_path), "method=none", "seed=15,16")).communicate(timeout=300)
    assert sweeping.returncode == 0, err
    assert "## tiny on mine" in out
    assert {p.name for p in (tmp_path / "results").iterdir()} == {"runs", "stages", "sweeps"}
    assert list((tmp_path / "results" / "sweeps").iterdir()) == []
    assert json.loads(next((tmp_path / "results" / "runs" / "test").glob("*.json")).read_text())
    shutil.rmtree(tmp_path / "results")
