"""Any task of lm-eval as a task of ours: its documents are problems, so that limits, halves and prompts work as for every other task."""

import importlib.metadata
import inspect
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ttsv.adaptations import Adaptation, ChangedWeights, EmbeddingPrefix, LowRank
from ttsv.records import Problem, UserError
from ttsv.scoring import ChoiceGrader, MathVerifyGrader
from ttsv.store import digest
from ttsv.tasks.base import Loaded, problems_sha256


@dataclass(frozen=True)
class LMEvalTask:
    """``task`` names a task, group or tag of lm-eval's, of ours (``ttsv_math500``, ...) or of the folder ``include_path``.

    ``num_fewshot`` None leaves the number of examples to the task. ``chat_template`` puts the tokenizer's template around each prompt
    when evaluating. ``metric`` and ``filter`` choose what counts as right: None takes ``acc``, else ``exact_match``, else the task's
    first score, under its first filter. A problem is a document, its question the prompt that lm-eval makes of it, without the template.
    """

    task: str
    num_fewshot: int | None = None
    chat_template: bool = False
    metric: str | None = None
    filter: str | None = None
    include_path: str | None = None

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"lm_eval/{self.task}"

    def load(self, data_dir: Path | None = None) -> list[Problem]:
        """The problems alone."""
        return self.read(data_dir).problems

    def read(self, data_dir: Path | None = None) -> Loaded:
        """Problems ``<task>/<document>`` in lm-eval's order, and provenance; ``data_dir`` is for tasks of ours.

        Its ``content`` is a hash of all that is asked and of how it is scored: configs with the source of their functions, requests, and
        the versions of our graders.

        Raises:
            UserError: for an unknown task, one that would run code, or data that cannot be had.
        """
        tasks = self.prepared(data_dir)
        problems: list[Problem] = []
        contents: list[Any] = [MathVerifyGrader().version, ChoiceGrader().version]
        for name, task in tasks.items():
            task.build_all_requests()
            contents.append([name, _plain(task.dump_config()), [_plain(instance.args) for instance in task.instances]])
            first = {instance.doc_id: instance for instance in reversed(task.instances)}
            for number, instance in sorted(first.items()):
                question, gold = str(instance.args[0]), _gold(task, instance.doc)
                problems.append(Problem(problem_id(name, number), question, gold, self.name, subject=name))
        return Loaded(
            problems,
            {
                "source": "lm-eval",
                "version": importlib.metadata.version("lm-eval"),
                "tasks": {name: _data_set(task) for name, task in tasks.items()},
                "rows": len(problems),
                "problems_sha256": problems_sha256(problems),
                "content": digest(contents),
            },
        )

    def availability(self, data_dir: Path | None = None) -> str:
        """Where the problems come from, in a line; lm-eval finds and loads data in one step, so they are loaded here already."""
        tasks = self.prepared(data_dir)
        return f"lm-eval {importlib.metadata.version('lm-eval')}, {len(tasks)} task(s): {', '.join(list(tasks)[:5])}"

    def prepared(self, data_dir: Path | None = None) -> dict[str, Any]:
        """Return lm-eval's tasks by name, with their number of examples set and all random choices at their start.

        The seeds are lm-eval's defaults, so that its own command line asks the same questions.
        """
        from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

        random.seed(DEFAULT_RANDOM_SEED)
        np.random.seed(DEFAULT_OTHER_SEED)
        tasks = _loaded(self, data_dir)
        for task in tasks.values():
            task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        return tasks


KINDS: frozenset[type[Adaptation]] = frozenset({EmbeddingPrefix, ChangedWeights, LowRank})
"""The adaptations that lm-eval tasks can be run with."""


def refuse_kind(kind: type[Adaptation] | None) -> None:
    """Raise a UserError for a kind of adaptation that lm-eval tasks cannot be run with."""
    if kind is not None and kind not in KINDS:
        known = ", ".join(sorted(known.__name__ for known in KINDS))
        raise UserError(f"lm-eval tasks cannot be run with {kind.__name__}; expected {known}, or none at all")


def problem_id(task: str, document: int) -> str:
    """Return the id of a document, by its number in the task."""
    return f"{task}/{document}"


def documents(problems: Sequence[Problem]) -> dict[str, list[int]]:
    """Return the numbers of the documents of each task, ascending, for :func:`problem_id`'s ids."""
    chosen: dict[str, list[int]] = {}
    for problem in problems:
        task, _, number = problem.id.rpartition("/")
        chosen.setdefault(task, []).append(int(number))
    return {task: sorted(numbers) for task, numbers in chosen.items()}


@lru_cache(maxsize=1)
def _loaded(wanted: LMEvalTask, data_dir: Path | None) -> dict[str, Any]:
    from ttsv.lm_eval.loading import load

    include_path = None if wanted.include_path is None else str(Path(wanted.include_path).expanduser())
    tasks = load(wanted.task, include_path, None if data_dir is None else str(data_dir))
    for name, task in tasks.items():
        own = task.get_config("num_fewshot")
        if wanted.num_fewshot not in (None, own) and own == 0:
            raise UserError(
                f"task.num_fewshot={wanted.num_fewshot}, but lm-eval's task {name} takes no examples; leave it null"
            )
        task.set_config(key="num_fewshot", value=wanted.num_fewshot if wanted.num_fewshot is not None else own or 0)
    return tasks


def _plain(content: Any) -> str:
    """Return JSON of a task's config or requests, functions as their source."""

    def other(value: Any) -> str:
        try:
            return inspect.getsource(value)
        except (TypeError, OSError):
            return getattr(value, "__qualname__", type(value).__name__)

    return json.dumps(content, default=other, sort_keys=True)


def _gold(task: Any, doc: Any) -> str:
    target = task.doc_to_target(doc)
    choices = task.doc_to_choice(doc) if task.get_config("doc_to_choice") is not None else []
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(choices):
        target = choices[target]
    return str(target)


def _data_set(task: Any) -> str:
    path, name = task.get_config("dataset_path"), task.get_config("dataset_name")
    return " ".join(str(part) for part in (path, name) if part) or "made by the task"
