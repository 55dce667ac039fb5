"""One cell from its problems to its record: adapt, generate, grade. Finished stages are reused, an interrupted one is gone on with."""

import json
import logging
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ttsv import preflight, stages
from ttsv.adaptations import HiddenShift
from ttsv.cell import Cell
from ttsv.cost import MEAN_PROMPT_TOKENS, answers_of
from ttsv.engines.base import refuse_unsupported
from ttsv.grading import grade
from ttsv.lm_eval.harness import lm_eval
from ttsv.lm_eval.task import LMEvalTask, refuse_kind
from ttsv.models import LanguageModel, held, open_source, resolve_device
from ttsv.prepared import (
    Prepared,
    asked_by,
    assemble,
    data_dir,
    dtypes_on,
    generation_of,
    model_key,
    prompts_key,
    record_file,
    setting_of,
)
from ttsv.prompts import ChatTemplate, render_prompts
from ttsv.records import Problem, Prompt, UserError
from ttsv.rereading import reread
from ttsv.store import Outcome, Stage, write_atomically

log = logging.getLogger(__name__)


def run_cell(cell: Cell) -> Path:
    """Run one cell and return its record file.

    Raises:
        UserError: for whatever the user can mend, before anything heavy where that can be known.
    """
    prepared = prepare(cell)
    outcomes = {"adapt": _adapt(prepared)}
    if cell.plain["measure"] == "activations":
        outcomes["activations"] = _activations(prepared, outcomes["adapt"])
    if isinstance(cell.task, LMEvalTask):
        outcomes["generate"] = outcomes["grade"] = _lm_eval(prepared, cell.task, outcomes["adapt"])
    elif cell.plain["stop_after"] != "adapt":
        outcomes["generate"] = _generate(prepared, outcomes["adapt"])
        if cell.plain["stop_after"] != "generate":
            generated = outcomes["generate"].stage
            for name, grader in (("grade", cell.grader), ("grade_second", cell.second_grader)):
                outcomes[name] = grade(prepared.store, generated, prepared.problems, grader, prepared.provenance)
            if cell.plain["reread"]:
                outcomes["reread"] = _reread(prepared, generated)
    return _record(prepared, outcomes)


def prepare(cell: Cell) -> Prepared:
    """Find problems and weights, say what the cell will use and need, and render the prompts.

    Raises:
        UserError: naming all that is missing or does not fit, before anything heavy.
    """
    device = resolve_device(cell.plain["device"])
    dtypes = dtypes_on(cell, device)
    _refuse(cell)
    _require(cell, data_dir(cell))
    asked = asked_by(cell)
    _announce(cell, device, dtypes, len(asked.adapted_on), len(asked.problems))
    source, options = _source(cell.model), cell.optimization

    def render(found: list[Problem]) -> list[Prompt]:
        return render_prompts(found, cell.prompt, source.tokenizer, options.max_prompt_tokens, options.overlong_prompt)

    return assemble(cell, device, dtypes, asked, source, render)


def _refuse(cell: Cell) -> None:
    """Refuse choices that do not go together, by the config alone."""
    refuse_unsupported(cell.engine, cell.method.kind)
    if isinstance(cell.task, LMEvalTask):
        refuse_kind(cell.method.kind)
    else:
        cell.engine.check(cell.evaluation.decoding)
    if cell.plain["measure"] and cell.method.kind is HiddenShift:
        raise UserError(
            f"measure=activations sees nothing of method={cell.method.name}, which acts behind the last layer; leave it out"
        )
    if not cell.model.thinking and not isinstance(cell.prompt, ChatTemplate):
        raise UserError(
            f"model.thinking=false has no effect with prompt={cell.names['prompt']}, whose text is fixed; use prompt=chat or few_shot"
        )


def _adapt(prepared: Prepared) -> Outcome:
    method, setting = prepared.cell.method, setting_of(prepared)
    return stages.adapt(prepared.store, method, setting, _loader(prepared, 0), prepared.provenance)


def _activations(prepared: Prepared, adapted: Outcome) -> Outcome:
    cell = prepared.cell
    return stages.activations(
        prepared.store,
        f"{cell.method.name}-{cell.names['task']}",
        prepared.prompts,
        stages.read_adaptation(adapted.stage.path, cell.plain["at_update"]),
        {
            "model": model_key(cell.model, prepared.source, prepared.dtypes[1]),
            "prompts": prompts_key(prepared.prompts),
        },
        _loader(prepared, 1),
        prepared.provenance,
    )


def _lm_eval(prepared: Prepared, task: LMEvalTask, adapted: Outcome) -> Outcome:
    """Return the stage of an lm-eval task, which is generated and graded at once, by lm-eval."""
    cell = prepared.cell
    return lm_eval(
        prepared.store,
        f"{cell.method.name}-{cell.names['task']}",
        task,
        prepared.problems,
        stages.read_adaptation(adapted.stage.path, cell.plain["at_update"]),
        {
            "model": model_key(cell.model, prepared.source, prepared.dtypes[1]),
            "device": prepared.device.type,
            "content": prepared.loaded.provenance["content"],
        },
        _loader(prepared, 1),
        prepared.provenance,
        data_dir(cell),
        cell.evaluation.decoding.batch_size,
        cell.plain["seeds"]["evaluation"],
    )


def _generate(prepared: Prepared, adapted: Outcome) -> Outcome:
    cell = prepared.cell
    label, requests, decoding, keys = generation_of(prepared)
    return stages.generate(
        prepared.store,
        label,
        requests,
        stages.read_adaptation(adapted.stage.path, cell.plain["at_update"]),
        decoding,
        cell.engine,
        keys,
        _loader(prepared, 1),
        prepared.provenance,
    )


def _reread(prepared: Prepared, generated: Stage) -> Outcome:
    tokenizer = prepared.source.tokenizer
    return reread(
        prepared.store,
        generated,
        prepared.problems,
        prepared.cell.grader,
        lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)),
        prepared.provenance,
    )


def _record(prepared: Prepared, outcomes: dict[str, Outcome]) -> Path:
    """Write the run record: what the cell was, and which stage directories hold its results. It replaces the cell's older record."""
    cell, store = prepared.cell, prepared.store
    facts = cell.facts(prepared.problems, prepared.source.fingerprint, prepared.device)
    record: dict[str, Any] = {
        "facts": facts,
        "optimised_ids": sorted(prepared.adapted_on),
        "stages": {name: outcome.stage.path.relative_to(store.root).as_posix() for name, outcome in outcomes.items()},
        "config": cell.plain,
    }
    file = record_file(prepared)
    file.parent.mkdir(parents=True, exist_ok=True)
    record["stages"] = {**_older_stages(file, record), **record["stages"]}
    write_atomically(file, json.dumps(record, indent=1))
    reused = [name for name, outcome in outcomes.items() if outcome.reused]
    reuse = f" ({', '.join(reused)} reused)" if reused else ""
    log.info("%s (seed %s) is finished%s: %s", facts["method"], facts["seed"], reuse, file)
    return file


def _older_stages(file: Path, record: dict[str, Any]) -> dict[str, str]:
    """Return the stages of the cell's older record, where it has more of the same: a run that was told to stop early takes nothing away."""
    try:
        older: dict[str, str] = json.loads(file.read_text())["stages"]
    except (OSError, ValueError, KeyError):
        return {}
    now = record["stages"]
    if any(now.get(name, path) != path for name, path in older.items() if name in ("adapt", "generate")):
        return {}
    return older


def _require(cell: Cell, folder: Path | None) -> None:
    """Refuse a cell whose problems or weights are not to be had, naming all that is missing at once, before anything is loaded."""
    missing = []
    try:
        for task in filter(None, (cell.task, cell.adapt_task)):
            log.info("problems of %s: %s", task.name, task.availability(folder))
    except UserError as error:
        missing = [str(error), preflight.weights(cell.model).missing]
    if any(missing):
        raise UserError("\n".join(filter(None, missing)))


def _announce(
    cell: Cell, device: torch.device, dtypes: tuple[torch.dtype, torch.dtype], adapted_on: int, problems: int
) -> None:
    """Print what the preflight says; refuse the cell if something is missing."""
    method = cell.method.of or cell.method
    work = method.work(cell.optimization, adapted_on, MEAN_PROMPT_TOKENS)
    answers = answers_of(cell.evaluation, problems, MEAN_PROMPT_TOKENS)
    report = _preflight(cell.model, device, dtypes, work, answers, adapted_on, problems)
    title = f"\n{cell.method.name} on {cell.names['task']}, seed {cell.plain['seed']}"
    print(title, *report.lines, sep="\n  ", file=sys.stderr)
    if report.missing:
        raise UserError(report.missing)


# Kept for the next cells of a sweep.
_preflight = lru_cache(maxsize=64)(preflight.check)
_source = lru_cache(maxsize=1)(open_source)


def _loader(prepared: Prepared, stage: int) -> Callable[[], LanguageModel]:
    """Return what loads the model for a stage."""
    return lambda: held(prepared.source, prepared.dtypes[stage], prepared.device)
