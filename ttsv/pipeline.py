"""One cell from its problems to its record: adapt, generate, grade. Finished stages are reused, an interrupted one is gone on with."""

import gc
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ttsv import preflight, stages
from ttsv.adaptations import HiddenShift
from ttsv.cell import Cell
from ttsv.engines.base import refuse_unsupported
from ttsv.grading import grade
from ttsv.lm_eval.harness import lm_eval
from ttsv.lm_eval.task import LMEvalTask, refuse_kind
from ttsv.methods.base import Setting
from ttsv.models import LanguageModel, Source, open_source, resolve_device, resolve_dtype
from ttsv.prompts import ChatTemplate, render_prompts
from ttsv.provenance import collect
from ttsv.records import Problem, Prompt, UserError
from ttsv.rereading import reread
from ttsv.store import Outcome, Stage, Store, digest, record_name, slug, write_atomically
from ttsv.tasks import halves, subset
from ttsv.tasks.base import Loaded
from ttsv.weights import ModelConfig

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


@dataclass(frozen=True)
class Prepared:
    """A cell with everything that its stages need, before any weights are loaded. ``dtypes`` are those of adapt and generate."""

    cell: Cell
    device: torch.device
    dtypes: tuple[torch.dtype, torch.dtype]
    loaded: Loaded
    problems: list[Problem]
    adapted_on: frozenset[str]
    source: Source
    prompts: list[Prompt]
    adapt_prompts: list[Prompt]
    store: Store

    @property
    def engine_key(self) -> dict[str, Any]:
        """What identifies the engine in a stage's key."""
        return {"name": self.cell.names["engine"], **self.cell.engine_config, "device": self.device.type}

    def provenance(self) -> dict[str, Any]:
        """Return what a stage's result was made with."""
        return {
            **collect(self.device),
            "engine": self.cell.engine.provenance(),
            "task": dict(self.loaded.provenance),
            "model": _model_record(self.cell.model, self.source),
            "seeds": self.cell.plain["seeds"],
        }


def prepare(cell: Cell) -> Prepared:
    """Find problems and weights, say what the cell will use and need, and render the prompts.

    Raises:
        UserError: naming all that is missing or does not fit, before anything heavy.
    """
    plain = cell.plain
    device = resolve_device(plain["device"])
    adapt_dtype, evaluate_dtype = (
        resolve_dtype(plain["recipe"]["dtype"][use], device) for use in ("adapt", "evaluate")
    )
    _refuse(cell)
    data_dir = _data_dir(cell)
    _require(cell, data_dir)
    loaded = cell.task.read(data_dir)
    problems = subset(loaded.problems, plain["limit"], plain["limit_seed"])
    elsewhere = cell.adapt_task.read(data_dir).problems if cell.adapt_task else None
    candidates = problems if elsewhere is None else subset(elsewhere, plain["limit"], plain["limit_seed"])
    chosen = adaptation_problems(candidates, plain["adapt_on"], plain["split_seed"])
    _announce(cell, device, (adapt_dtype, evaluate_dtype), len(chosen), len(problems))
    source = _source(cell.model)

    def rendered(found: list[Problem]) -> list[Prompt]:
        options = cell.optimization
        return render_prompts(found, cell.prompt, source.tokenizer, options.max_prompt_tokens, options.overlong_prompt)

    prompts = rendered(problems)
    return Prepared(
        cell,
        device,
        (adapt_dtype, evaluate_dtype),
        loaded,
        problems,
        frozenset() if cell.adapt_task else chosen,
        source,
        prompts,
        [p for p in (prompts if elsewhere is None else rendered(candidates)) if p.problem_id in chosen],
        Store(Path(plain["results_dir"]) / "stages"),
    )


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


def _data_dir(cell: Cell) -> Path | None:
    return Path(cell.plain["data_dir"]).expanduser() if cell.plain["data_dir"] else None


def adaptation_problems(problems: list[Problem], adapt_on: str, seed: int) -> frozenset[str]:
    """Return the ids of the problems that a vector is optimised on."""
    if adapt_on == "all":
        return frozenset(p.id for p in problems)
    return halves(problems, seed)[0 if adapt_on == "first_half" else 1]


def _adapt(prepared: Prepared) -> Outcome:
    cell = prepared.cell
    setting = Setting(
        cell.optimization,
        cell.seeds,
        prepared.adapt_prompts,
        _model_key(cell.model, prepared.source, prepared.dtypes[0]),
        _prompts_key(prepared.adapt_prompts),
        cell.engine,
        prepared.engine_key,
        cell.plain["checkpoint_every"],
    )
    return stages.adapt(prepared.store, cell.method, setting, _loader(prepared, 0), prepared.provenance)


def _activations(prepared: Prepared, adapted: Outcome) -> Outcome:
    cell = prepared.cell
    return stages.activations(
        prepared.store,
        f"{cell.method.name}-{cell.names['task']}",
        prepared.prompts,
        stages.read_adaptation(adapted.stage.path, cell.plain["at_update"]),
        {
            "model": _model_key(cell.model, prepared.source, prepared.dtypes[1]),
            "prompts": _prompts_key(prepared.prompts),
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
            "model": _model_key(cell.model, prepared.source, prepared.dtypes[1]),
            "device": prepared.device.type,
            "content": prepared.loaded.provenance["content"],
        },
        _loader(prepared, 1),
        prepared.provenance,
        _data_dir(cell),
        cell.evaluation.decoding.batch_size,
        cell.plain["seeds"]["evaluation"],
    )


def _generate(prepared: Prepared, adapted: Outcome) -> Outcome:
    cell = prepared.cell
    keys = {
        "model": _model_key(cell.model, prepared.source, prepared.dtypes[1]),
        "prompts": _prompts_key(prepared.prompts),
        "engine": prepared.engine_key,
    }
    return stages.generate(
        prepared.store,
        f"{cell.method.name}-{cell.names['task']}",
        cell.evaluation.requests(prepared.prompts),
        stages.read_adaptation(adapted.stage.path, cell.plain["at_update"]),
        cell.evaluation.resolved(prepared.source.generation_config),
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
    label = slug("-".join([facts["model"], facts["task"], facts["method"], f"seed{facts['seed']}"]))
    file = Path(cell.plain["results_dir"]) / "runs" / cell.study / record_name(label, facts)
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


def _require(cell: Cell, data_dir: Path | None) -> None:
    """Refuse a cell whose problems or weights are not to be had, naming all that is missing at once, before anything is loaded."""
    missing = []
    try:
        for task in filter(None, (cell.task, cell.adapt_task)):
            log.info("problems of %s: %s", task.name, task.availability(data_dir))
    except UserError as error:
        missing = [str(error), preflight.weights(cell.model).missing]
    if any(missing):
        raise UserError("\n".join(filter(None, missing)))


def _announce(
    cell: Cell, device: torch.device, dtypes: tuple[torch.dtype, torch.dtype], adapted_on: int, problems: int
) -> None:
    """Print what the preflight says; refuse the cell if something is missing."""
    method = cell.method.of or cell.method
    options = method.optimization(cell.optimization, adapted_on)
    memory = (method.host_bytes_per_parameter, method.device_copies)
    report = _preflight(cell.model, device, dtypes, options, cell.evaluation, adapted_on, problems, *memory)
    title = f"\n{cell.method.name} on {cell.names['task']}, seed {cell.plain['seed']}"
    print(title, *report.lines, sep="\n  ", file=sys.stderr)
    if report.missing:
        raise UserError(report.missing)


# Kept for the next cells of a sweep.
_preflight = lru_cache(maxsize=64)(preflight.check)
_source = lru_cache(maxsize=1)(open_source)
_held: dict[tuple[Source, torch.dtype, torch.device], LanguageModel] = {}


def _loader(prepared: Prepared, stage: int) -> Callable[[], LanguageModel]:
    """Return what loads the model for a stage; at most one is in memory, also while another is loaded in its place."""
    wanted = (prepared.source, prepared.dtypes[stage], prepared.device)

    def load() -> LanguageModel:
        if wanted not in _held:
            _held.clear()
            gc.collect()
            if prepared.device.type == "cuda":
                torch.cuda.empty_cache()
            _held[wanted] = prepared.source.load(wanted[1], prepared.device)
        return _held[wanted]

    return load


def _model_key(config: ModelConfig, source: Source, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "fingerprint": source.fingerprint,
        "end_tokens": list(config.end_tokens),
        "attention": config.attn_implementation,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _model_record(config: ModelConfig, source: Source) -> dict[str, Any]:
    revision = source.folder.name if config.id else config.revision
    return {
        "name": config.name,
        "id": config.id,
        "package": config.package,
        "revision": revision,
        "fingerprint": source.fingerprint,
    }


def _prompts_key(prompts: list[Prompt]) -> str:
    return digest([[p.problem_id, p.token_ids] for p in prompts])
