"""lm-eval's tasks, found by name and loaded with nothing run that was downloaded or that a model wrote."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import evaluate
import lm_eval.api.metrics  # noqa: F401  # fills the registry of metrics
from lm_eval.api.registry import metric_registry
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from ttsv.records import UserError

TASK_CONFIGS = Path(__file__).parent / "task_configs"
"""Our tasks, as a folder that lm-eval can be told to include."""


def load(name: str, include_path: str | None, data_dir: str | None) -> dict[str, Task]:
    """Return the tasks that a task, group or tag of lm-eval consists of, by name; theirs, ours and those of ``include_path``.

    Raises:
        UserError: for an unknown name, a task that would run code (see :func:`refuse_code`), or data that cannot be had.
    """
    manager = _manager(name, include_path, data_dir)
    for leaf, config in _configs(manager, name):
        refuse_code(leaf, config)
    with downloaded_code_refused():
        try:
            tasks: dict[str, Task] = manager.load([name])["tasks"]
        except UserError:
            raise
        except Exception as error:  # whatever its data set's library or its own functions raise
            raise UserError(
                f"lm-eval cannot load its task {name} ({type(error).__name__}: {error}); check the connection to the hub, "
                "or give a task of your own on local data with task.include_path"
            ) from error
    for leaf, task in tasks.items():
        if getattr(task, "UNSAFE_CODE", False):
            raise UserError(_RUNS_CODE.format(task=leaf, why="it is marked as unsafe"))
        if getattr(task, "MULTIMODAL", False):
            raise UserError(f"lm-eval's task {leaf} shows images or plays sounds; expected one of text alone")
    return tasks


_RUNS_CODE = (
    "lm-eval's task {task} is not run: {why}. No code that a model wrote or that was downloaded is ever executed here"
)


def refuse_code(task: str, config: Mapping[str, Any]) -> None:
    """Refuse a task whose config says that it executes completions, or scores by a script of the hub.

    Raises:
        UserError: naming the task and the reason.
    """
    if config.get("unsafe_code"):
        raise UserError(_RUNS_CODE.format(task=task, why="it executes what the model writes (unsafe_code)"))
    for entry in config.get("metric_list") or []:
        metric = entry.get("metric")
        # With process_results the names of metrics are labels; a path is a function of the task's own.
        known = metric in metric_registry and not entry.get("hf_evaluate")
        if not (config.get("process_results") or "/" in str(metric) or known):
            raise UserError(_RUNS_CODE.format(task=task, why=f"its metric {metric} is a script of the hub"))


@contextmanager
def downloaded_code_refused() -> Iterator[None]:
    """Refuse, while the context lasts, what some tasks' functions do: fetch a metric's script from the hub and run it."""

    def refuse(path: str, *_: Any, **__: Any) -> None:
        raise UserError(_RUNS_CODE.format(task="or metric", why=f"it fetches the script {path!r} from the hub"))

    original: Callable[..., Any] = evaluate.load
    evaluate.load = refuse
    try:
        yield
    finally:
        evaluate.load = original


@lru_cache(maxsize=4)
def _index(include_path: str | None, data_dir: str | None, theirs: bool) -> TaskManager:
    paths = [str(TASK_CONFIGS), *([include_path] if include_path else [])]
    return TaskManager(include_path=paths, include_defaults=theirs, metadata={"data_dir": data_dir})


def _manager(name: str, include_path: str | None, data_dir: str | None) -> TaskManager:
    """Return the index that knows ``name``; lm-eval's own, which takes some 10 s to read, only where it is needed."""
    ours = _index(include_path, data_dir, False)
    if name in ours.all_subtasks:
        return ours
    everything = _index(include_path, data_dir, True)
    if name not in everything.all_tasks:
        close = difflib.get_close_matches(name, everything.all_tasks, n=5)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise UserError(f"lm-eval knows no task, group or tag {name!r}{hint}")
    return everything


def _configs(manager: TaskManager, spec: str | Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and config of each task below a name or an entry of a group, unresolved, so that nothing of a task is run to read it."""
    config = spec
    if isinstance(spec, str):
        entry = manager.task_index.get(spec)
        if entry is None:
            return
        config = load_yaml(entry.yaml_path, resolve_func=False) if entry.yaml_path else {"task": sorted(entry.tags)}
    assert not isinstance(config, str)
    inner = config.get("task")
    if isinstance(inner, list):
        for child in inner:
            yield from _configs(manager, child)
    elif isinstance(spec, str):
        yield spec, config
    else:
        base = str(spec.get("group", inner))
        yield base, spec
        for leaf, below in _configs(manager, base):
            yield leaf, {**below, **spec}
