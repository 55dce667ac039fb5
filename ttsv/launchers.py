"""Hydra launchers that give a sweep's cells to other processes: on this machine (joblib), on Ray, on Slurm (submitit).

Hydra's own plugins of these names, whose settings these have, are not used, because with them the first worker that is lost ends the
sweep. Here it loses its cell, which is named at the end. The working directory and the results folder have to be visible to every worker.
"""

import os
import signal
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from ttsv import sweep
from ttsv.records import UserError

NAMESPACE = "hydra_plugins.ttsv"
"""What configs call this module by; see :func:`register`."""

GENERIC = frozenset(
    {"name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "stderr_to_stdout"}
)
"""The parameters that submitit takes for every kind of cluster; those of Slurm alone it wants marked so."""


@dataclass(frozen=True)
class Job:
    """One cell for a worker, which only has to call it."""

    context: HydraContext
    function: TaskFunction
    config: DictConfig
    folder: Path = field(default_factory=Path.cwd)

    def __call__(self) -> None:
        """Run the cell as Hydra runs it; its end is recorded by the cell itself (:mod:`ttsv.sweep`)."""
        os.chdir(self.folder)
        setup_globals()
        run_job(
            hydra_context=self.context,
            task_function=self.function,
            config=self.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )

    def checkpoint(self) -> Any:
        """Tell submitit to queue the same cell again where Slurm stops it; it goes on from what is on disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class CellLauncher(Launcher):
    """What the launchers share: composing the cells, and a record for each whose worker left none."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over."""
        self.context, self.function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Carry the cells out; none of them, whatever becomes of it, keeps the others from being run."""
        setup_globals()
        jobs = [self._job(list(words), initial_job_idx + i) for i, words in enumerate(job_overrides)]
        try:
            for job, error in self.carry_out(jobs):
                sweep.note_lost(job.config.hydra, error)
        except UserError as error:
            sweep.refuse(str(error))
        except KeyboardInterrupt:
            sweep.interrupted()
        return [JobReturn(overrides=list(words), status=JobStatus.COMPLETED) for words in job_overrides]

    def _job(self, words: list[str], number: int) -> Job:
        config = self.context.config_loader.load_sweep_config(self.config, words)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return Job(self.context, self.function, config)

    @abstractmethod
    def carry_out(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, BaseException | None]]:
        """Yield each job when it has ended, and what its worker died of, if it did."""


class JoblibLauncher(CellLauncher):
    """``n_jobs`` cells at once on this machine, each worker a pool of one process: a pool of several dies with any of them."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs

    def carry_out(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, BaseException | None]]:
        """Yield the jobs as they end; a worker that was lost is replaced."""
        if self.n_jobs < 1:
            raise UserError(f"hydra.launcher.n_jobs={self.n_jobs} is out of range; expected at least 1")
        left, idle = list(reversed(jobs)), list[Any]()
        running: dict[Any, tuple[Any, Job]] = {}
        try:
            while left or running:
                while left and len(running) < self.n_jobs:
                    worker, job = idle.pop() if idle else self._worker(), left.pop()
                    running[worker.submit(job)] = worker, job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    worker, job = running.pop(future)
                    error = future.exception()
                    if not isinstance(error, BrokenExecutor):
                        idle.append(worker)
                    yield job, error
        finally:
            for worker, _ in running.values():
                worker.shutdown(kill_workers=True)
            for worker in idle:
                worker.shutdown()

    def _worker(self) -> Any:
        from joblib.externals.loky import ProcessPoolExecutor

        threads = max(1, (psutil.cpu_count(logical=False) or 1) // self.n_jobs)
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        return ProcessPoolExecutor(max_workers=1, env=environment)


class RayLauncher(CellLauncher):
    """A Ray task per cell; ``ray.init`` are the arguments of ``ray.init()``, ``ray.remote`` the options of the tasks."""

    def __init__(self, ray: Mapping[str, Any]) -> None:
        self.options: Any = OmegaConf.to_container(ray, resolve=True) if isinstance(ray, DictConfig) else dict(ray)

    def carry_out(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, BaseException | None]]:
        """Yield the jobs as they end, and leave Ray."""
        ray = _imported("ray", "ray")
        ray.init(**self.options["init"])
        remote = dict(self.options["remote"])
        if remote["num_gpus"] is None:
            remote["num_gpus"] = 1 if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(**remote)(_call)
        try:
            running = {task.remote(job): job for job in jobs}
            while running:
                (done,), _ = ray.wait(list(running))
                error = None
                try:
                    ray.get(done)
                except Exception as found:
                    error = found
                yield running.pop(done), error
        finally:
            ray.shutdown()


class SubmititLauncher(CellLauncher):
    """A job of ``cluster`` per cell, submitted together as an array; the other parameters are submitit's."""

    def __init__(self, cluster: str, submitit_folder: str, max_num_timeout: int = 0, **parameters: Any) -> None:
        self.cluster, self.folder, self.max_num_timeout = cluster, submitit_folder, max_num_timeout
        plain = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in parameters.items()}
        self.parameters = {k if k in GENERIC else f"slurm_{k}": v for k, v in plain.items()}

    def carry_out(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, BaseException | None]]:
        """Submit all jobs and wait for each; cancel those that are left if the sweep is interrupted."""
        submitted = self._submitted(jobs)
        try:
            for job, running in zip(jobs, submitted, strict=True):
                error = None
                try:
                    running.result()
                except Exception as found:
                    error = found
                yield job, error
        except BaseException:
            for running in submitted:
                running.cancel()
            raise

    def _submitted(self, jobs: Sequence[Job]) -> list[Any]:
        submitit = _imported("submitit", "slurm")
        try:
            executor = submitit.AutoExecutor(self.folder, self.cluster, slurm_max_num_timeout=self.max_num_timeout)
            executor.update_parameters(**self.parameters)
        except (RuntimeError, NameError, ValueError, AssertionError) as error:
            raise UserError(f"submitit refuses the settings of hydra.launcher: {error}") from error
        with executor.batch():
            return [executor.submit(job) for job in jobs]


def _call(job: Job) -> None:
    # Ray runs tasks outside of a main thread's handling of Ctrl-C; a worker ends with its driver.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job()


def _imported(package: str, extra: str) -> Any:
    try:
        return __import__(package)
    except ImportError as error:
        raise UserError(
            f"this launcher needs the package {package}, the extra ttsv[{extra}]: "
            f".venv/bin/uv pip install --python .venv/bin/python -c requirements.lock {package}"
        ) from error


def register() -> None:
    """Make the launchers known to Hydra, as often as one likes."""
    plugins = Plugins.instance()
    # Hydra finds launchers by name in the namespace package hydra_plugins alone, which is there only if some plugin is installed.
    package = sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
    package.__path__ = getattr(package, "__path__", [])
    sys.modules[NAMESPACE] = sys.modules[__name__]
    # The config of Hydra's own plugin of the same name, where that is installed, would be merged into ours.
    for name in ("joblib", "ray", "submitit_slurm", "submitit_local"):
        ConfigStore.instance().repo.get("hydra", {}).get("launcher", {}).pop(f"{name}.yaml", None)
    for launcher in (JoblibLauncher, RayLauncher, SubmititLauncher):
        launcher.__module__ = NAMESPACE
        plugins.register(launcher)
