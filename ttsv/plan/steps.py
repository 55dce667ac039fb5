"""The stages of a cell that cost something, known before any weights are loaded: what identifies each, and whether it is finished."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from ttsv import preflight, stages
from ttsv.adaptations import ChangedWeights, EmbeddingPrefix, EmbeddingPrefixes
from ttsv.cell import Cell
from ttsv.cost import MEAN_PROMPT_TOKENS, Answers, Shape, Work, answers_of, shape
from ttsv.lm_eval.task import LMEvalTask
from ttsv.methods.base import Method
from ttsv.models import Source
from ttsv.prepared import (
    Asked,
    Prepared,
    asked_by,
    assemble,
    data_dir,
    dtypes_on,
    generation_of,
    prompts_key,
    record_file,
    setting_of,
)
from ttsv.prompts import render_prompts
from ttsv.records import Problem, Prompt, UserError
from ttsv.store import Stage, digest
from ttsv.weights import ModelConfig, at_hand, fingerprint

NOT_AT_HAND = "not at hand"


@dataclass(frozen=True)
class Step:
    """A stage: what tells it from others, whether it is finished, and what it computes. ``prompts`` identifies its prompts."""

    identity: str
    finished: bool
    work: Work
    answers: Answers | None
    prompts: str


@dataclass(frozen=True)
class Planned:
    """A cell, its stages, and what decides its cost: the model in the dtypes of optimisation and evaluation."""

    cell: Cell
    finished: bool
    steps: tuple[Step, ...]
    work: Work
    answers: Answers | None
    models: tuple[Shape, Shape]
    sized: bool
    fingerprint: str


def plan_cell(cell: Cell, device: torch.device) -> Planned:
    """Return what a cell has to compute on ``device``, which need not be here. Problems are read, weights are not.

    Raises:
        UserError: where a run would refuse the cell too: problems or files that are missing.
    """
    prepared = _outlined(cell, device)
    prompts = _mean(prepared.adapt_prompts)
    method = cell.method.of or cell.method
    adapting = method.work(cell.optimization, len(prepared.adapt_prompts), prompts)
    steps, answers = list(_adapt_steps(prepared, adapting)), None
    if cell.plain["stop_after"] != "adapt":
        behind = cell.optimization.length if _prefixes(cell.method) else 0
        answers = answers_of(cell.evaluation, len(prepared.problems), _mean(prepared.prompts) + behind)
        steps.append(_generate_step(prepared, steps[-1], answers))
    weights = preflight.weights(cell.model)
    if not weights.parameters:
        raise UserError(
            f"{cell.model.name}: how many parameters it has is not known; set model.parameters, or fetch it"
        )
    adapt, evaluate = (
        shape(weights.parameters, weights.sizes, preflight.element_size(dtype)) for dtype in prepared.dtypes
    )
    finished = _has_record(prepared, "grade" if cell.plain["stop_after"] is None else str(cell.plain["stop_after"]))
    return Planned(
        cell,
        finished,
        tuple(steps),
        adapting,
        answers,
        (adapt, evaluate),
        weights.sizes is not None,
        prepared.source.fingerprint,
    )


def _prefixes(method: Method) -> bool:
    return method.kind in (EmbeddingPrefix, EmbeddingPrefixes)


def _adapt_steps(prepared: Prepared, work: Work) -> Iterator[Step]:
    cell, setting = prepared.cell, setting_of(prepared)
    prompts = prompts_key(prepared.adapt_prompts)
    if cell.method.of is not None:
        yield _step(stages.adapt_stage(prepared.store, cell.method.of, setting), work, None, prompts)
        work = Work()
    yield _step(stages.adapt_stage(prepared.store, cell.method, setting), work, None, prompts)


def _generate_step(prepared: Prepared, adapted: Step, answers: Answers) -> Step:
    """Return the generation; what it evaluates is known by its adaptation's numbers once they are there, before by their stage."""
    cell, prompts = prepared.cell, prompts_key(prepared.prompts)
    label, requests, decoding, keys = generation_of(prepared)
    if isinstance(cell.task, LMEvalTask):
        identity = digest(["lm_eval", adapted.identity, cell.plain["at_update"], cell.plain["task"], keys])
        return Step(identity, _has_record(prepared, "generate"), Work(), answers, prompts)
    unknown = {"stage": adapted.identity, "at_update": cell.plain["at_update"]}
    found: Any = None if cell.method.kind is None else unknown
    # Changed weights are large: whether they were evaluated is taken from the cell's record.
    by_record = cell.method.kind is ChangedWeights
    if adapted.finished and found is not None and not by_record:
        folder = next((prepared.store.root / "adapt").glob(f"[!.]*-{adapted.identity[:16]}"))
        adaptation = stages.read_adaptation(folder, cell.plain["at_update"])
        found = None if adaptation is None else adaptation.identity()
    stage = stages.generate_stage(prepared.store, label, requests, found, decoding, keys)
    step = _step(stage, Work(), answers, prompts)
    return replace(step, finished=step.finished or (by_record and _has_record(prepared, "generate")))


def _step(stage: Stage, work: Work, answers: Answers | None, prompts: str) -> Step:
    return Step(stage.digest, stage.path.exists(), work, answers, prompts)


def _has_record(prepared: Prepared, stage: str) -> bool:
    """Tell whether the cell's record names a finished stage of that kind."""
    try:
        named = json.loads(record_file(prepared).read_text())["stages"][stage]
    except (OSError, ValueError, KeyError):
        return False
    return bool((prepared.store.root / named).is_dir())


def _outlined(cell: Cell, device: torch.device) -> Prepared:
    """Return the cell with its prompts; where the model's tokenizer is not at hand, with prompts of no tokens."""
    source, options = _source(cell.model), cell.optimization
    if source.fingerprint == NOT_AT_HAND:
        # Without a tokenizer, templates are told apart by their configs.
        source = replace(source, fingerprint=f"{NOT_AT_HAND} {digest([cell.plain['model'], cell.plain['prompt']])}")

    def render(problems: list[Problem]) -> list[Prompt]:
        if source.fingerprint.startswith(NOT_AT_HAND):
            return [Prompt(problem.id, "", ()) for problem in problems]
        return render_prompts(
            problems, cell.prompt, source.tokenizer, options.max_prompt_tokens, options.overlong_prompt
        )

    plain = cell.plain
    shared = [plain[key] for key in ("task", "prompt", "limit", "limit_seed", "adapt_on", "split_seed", "data_dir")]
    key = digest([shared, plain.get("adapt_task"), plain["model"], options.max_prompt_tokens, options.overlong_prompt])
    if key not in _asked:
        for task in filter(None, (cell.task, cell.adapt_task)):
            task.availability(data_dir(cell))  # says at once what reading them would try for minutes
        _asked[key] = (asked_by(cell), {})
    asked, rendered = _asked[key]

    def remembered(problems: list[Problem]) -> list[Prompt]:
        if id(problems) not in rendered:
            rendered[id(problems)] = render(problems)
        return rendered[id(problems)]

    return assemble(cell, device, dtypes_on(cell, device), asked, source, remembered)


_asked: dict[str, tuple[Asked, dict[int, list[Prompt]]]] = {}
"""Problems and prompts that cells of a sweep share."""


@lru_cache(maxsize=8)
def _source(config: ModelConfig) -> Source:
    """Return where a model's files are, unless it is neither downloaded nor converted yet."""
    folder = at_hand(config)
    if folder is None:
        return Source(config, Path(NOT_AT_HAND), NOT_AT_HAND)
    return Source(config, folder, fingerprint(folder))


def _mean(prompts: list[Prompt]) -> float:
    """Return the mean number of tokens, or a round figure where they are not known."""
    lengths = [len(prompt.token_ids) for prompt in prompts]
    return fmean(lengths) if any(lengths) else MEAN_PROMPT_TOKENS
