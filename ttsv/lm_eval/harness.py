"""A model, adapted or not, on any task of lm-eval: its per-document scores in the format of graded samples."""

import importlib.metadata
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ttsv.adaptations import Adaptation
from ttsv.collapse import repetition
from ttsv.grading import METRICS, SAMPLES
from ttsv.lm_eval.task import LMEvalTask, documents, problem_id
from ttsv.methods.base import Load
from ttsv.models import LanguageModel
from ttsv.records import Problem, UserError
from ttsv.store import Outcome, Store, digest, once, write_json

LM_EVAL_VERSION = 1
"""Raised whenever a change of the code may change what is stored."""

PREFERRED = ("acc", "exact_match")


def evaluate(
    task: LMEvalTask,
    problems: Sequence[Problem],
    lm: LanguageModel,
    adaptation: Adaptation | None,
    data_dir: Path | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a row per problem (one of ``task.read``) with the columns of a graded sample.

    ``correct`` is the score in [0, 1] that ``task.metric`` and ``task.filter`` choose; ``scores`` holds all of the document's scores as
    JSON, by ``metric,filter``. ``question`` is the prompt as it was asked: where examples are drawn at random, lm-eval lets them depend on
    the documents before, so only runs on the same problems are comparable. ``text`` is the completion or, in multiple choice, the
    continuation of highest log-likelihood; ``tokens`` counts those of a completion's text, which lm-eval has cut at the task's stop
    strings, tokenised anew. What lm-eval does not tell (why a row ended, entropies) is missing. ``seed`` is that of tasks that sample.

    Raises:
        UserError: for a kind of adaptation that is not supported, or a task without such a score.
    """
    from lm_eval.evaluator import evaluate as run

    from ttsv.lm_eval.loading import downloaded_code_refused
    from ttsv.lm_eval.model import SoftPromptLM

    model = SoftPromptLM.around(lm, adaptation, batch_size=batch_size)
    chosen = documents(problems)
    tasks = {name: loaded for name, loaded in task.prepared(data_dir).items() if name in chosen}
    torch.manual_seed(seed)
    with downloaded_code_refused(), adaptation.applied(lm) if adaptation else nullcontext():
        results = run(
            lm=model,
            task_dict={"tasks": tasks},
            samples=chosen,
            bootstrap_iters=0,
            apply_chat_template=task.chat_template,
            fewshot_as_multiturn=task.chat_template,
        )
    by_id: dict[str, list[dict[str, Any]]] = {}
    for name, samples in results["samples"].items():
        for found in samples:
            by_id.setdefault(problem_id(name, found["doc_id"]), []).append(found)
    return pd.DataFrame([_row(task, problem, by_id[problem.id], lm) for problem in problems])


def _row(task: LMEvalTask, problem: Problem, samples: Sequence[Mapping[str, Any]], lm: LanguageModel) -> dict[str, Any]:
    """Return the row of one document; lm-eval gives a sample per filter."""
    scores = {
        f"{metric},{sample['filter']}": float(sample[metric])
        for sample in samples
        for metric in sample["metrics"]
        if isinstance(sample[metric], Real | np.number | np.bool_)
    }
    chosen = _chosen(task, problem, samples, scores)
    text, answer, written = _answer(samples, chosen.rpartition(",")[2])
    ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"] if written else []
    return {
        "problem_id": problem.id,
        "sample": 0,
        "text": text,
        "finish_reason": None,
        "mean_entropy": float("nan"),
        "tokens": len(ids) if written else float("nan"),
        "question": str(samples[0]["arguments"][0][0]),
        "gold": problem.gold,
        "subject": problem.subject,
        "level": problem.level,
        "correct": scores[chosen],
        "answer": answer,
        "flag": "ok",
        "why": f"{chosen.partition(',')[0]} of lm-eval",
        "boxed": "\\boxed" in text if written else float("nan"),
        "repetition": repetition(ids) if written else float("nan"),
        "scores": json.dumps(scores),
    }


def _chosen(
    task: LMEvalTask, problem: Problem, samples: Sequence[Mapping[str, Any]], scores: Mapping[str, float]
) -> str:
    """Return the ``metric,filter`` that decides whether a document counts as right."""
    chosen_filter = task.filter or str(samples[0]["filter"])
    usable = [name.partition(",")[0] for name in scores if name.rpartition(",")[2] == chosen_filter]
    metric = task.metric or next((name for name in PREFERRED if name in usable), next(iter(usable), None))
    found = scores.get(f"{metric},{chosen_filter}")
    if found is None or not 0 <= found <= 1:
        there = ", ".join(f"{name} ({value:g})" for name, value in scores.items()) or "none that is a number"
        raise UserError(
            f"{task.name}, document {problem.id}: no score in [0, 1] for metric {metric} under filter {chosen_filter}; it has {there}. "
            "Set task.metric and task.filter, or, for scores of a whole corpus such as perplexities, use python -m ttsv.lm_eval"
        )
    return f"{metric},{chosen_filter}"


def _answer(samples: Sequence[Mapping[str, Any]], chosen_filter: str) -> tuple[str, str | None, bool]:
    """Return what the model said, what was compared with the gold, and whether the model wrote it rather than chose it."""
    sample = next(s for s in samples if s["filter"] == chosen_filter)
    arguments, first = sample["arguments"], sample["resps"][0][0]
    if isinstance(first, str):
        filtered = sample["filtered_resps"][0]
        return first, filtered if isinstance(filtered, str) else json.dumps(filtered), True
    if len(arguments) == 1:
        return "", None, False
    # Tasks may ask for likelihoods without context, too, to normalise by; and in some the contexts are the options.
    options = [i for i, (context, _) in enumerate(arguments) if context]
    best = max(options, key=lambda i: sample["resps"][i][0][0])
    same = len({continuation for _, continuation in arguments}) == 1
    text = str(arguments[best][0] if same else arguments[best][1]).strip()
    return text, text, False


def lm_eval(
    store: Store,
    label: str,
    task: LMEvalTask,
    problems: Sequence[Problem],
    adaptation: Adaptation | None,
    keys: Mapping[str, Any],
    load: Load,
    provenance: Callable[[], Mapping[str, Any]],
    data_dir: Path | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> Outcome:
    """Find the evaluation of a (possibly adapted) model: ``samples.parquet`` (see :func:`evaluate`) and ``metrics.json``.

    It stands in a run record for both ``generate`` and ``grade``. ``keys`` identifies model and arithmetic, and the ``content`` of
    :meth:`LMEvalTask.read`, JSON-able. ``include_path`` is not part of the key, since what stands there is, by the content.
    """
    wanted = {name: value for name, value in asdict(task).items() if name != "include_path"}
    key = {
        "version": LM_EVAL_VERSION,
        "lm_eval": importlib.metadata.version("lm-eval"),
        "task": wanted,
        "problems": digest([[p.id, p.question, p.gold] for p in problems]),
        "adaptation": None if adaptation is None else adaptation.identity(),
        "batch_size": batch_size,
        "seed": seed,
        **keys,
    }

    def compute(work: Path) -> None:
        lm = load()
        began = time.perf_counter()
        samples = evaluate(task, problems, lm, adaptation, data_dir, batch_size, seed)
        samples.to_parquet(work / SAMPLES)
        scores = pd.DataFrame(json.loads(text) for text in samples["scores"])
        write_json(
            work / METRICS,
            {
                "seconds": time.perf_counter() - began,
                "problems": len(samples),
                "accuracy": float(samples["correct"].mean()),
                "scores": {name: float(scores[name].mean()) for name in scores},
            },
        )

    return once(store.stage("lm_eval", label, key), compute, provenance)
