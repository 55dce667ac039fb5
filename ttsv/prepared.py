"""A cell with everything that its stages need before any weights are loaded, and the keys that its results are found by."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ttsv.cell import Cell
from ttsv.engines.base import Decoding, Request
from ttsv.methods.base import Setting
from ttsv.models import Source, resolve_dtype
from ttsv.provenance import collect
from ttsv.records import Problem, Prompt
from ttsv.store import Store, digest, record_name, slug
from ttsv.tasks import halves, subset
from ttsv.tasks.base import Loaded
from ttsv.weights import ModelConfig


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


@dataclass(frozen=True)
class Asked:
    """The problems of a cell, those among which it adapts, and the ids of those that it adapts on."""

    loaded: Loaded
    problems: list[Problem]
    candidates: list[Problem]
    adapted_on: frozenset[str]


def asked_by(cell: Cell) -> Asked:
    """Read a cell's problems, its subset and half of them; raises what its tasks raise."""
    plain, folder = cell.plain, data_dir(cell)
    loaded = cell.task.read(folder)
    problems = subset(loaded.problems, plain["limit"], plain["limit_seed"])
    elsewhere = cell.adapt_task.read(folder).problems if cell.adapt_task else None
    candidates = problems if elsewhere is None else subset(elsewhere, plain["limit"], plain["limit_seed"])
    chosen = adaptation_problems(candidates, plain["adapt_on"], plain["split_seed"])
    return Asked(loaded, problems, candidates, chosen)


def dtypes_on(cell: Cell, device: torch.device) -> tuple[torch.dtype, torch.dtype]:
    """Return the dtypes of optimisation and evaluation on a device."""
    names = cell.plain["recipe"]["dtype"]
    return resolve_dtype(names["adapt"], device), resolve_dtype(names["evaluate"], device)


def assemble(
    cell: Cell,
    device: torch.device,
    dtypes: tuple[torch.dtype, torch.dtype],
    asked: Asked,
    source: Source,
    render: Callable[[list[Problem]], list[Prompt]],
) -> Prepared:
    """Put together what the stages need; ``render`` makes prompts of problems."""
    prompts = render(asked.problems)
    among = prompts if asked.candidates is asked.problems else render(asked.candidates)
    return Prepared(
        cell,
        device,
        dtypes,
        asked.loaded,
        asked.problems,
        frozenset() if cell.adapt_task else asked.adapted_on,
        source,
        prompts,
        [p for p in among if p.problem_id in asked.adapted_on],
        Store(Path(cell.plain["results_dir"]) / "stages"),
    )


def data_dir(cell: Cell) -> Path | None:
    """Return the folder with local copies of data sets, if one was given."""
    return Path(cell.plain["data_dir"]).expanduser() if cell.plain["data_dir"] else None


def adaptation_problems(problems: list[Problem], adapt_on: str, seed: int) -> frozenset[str]:
    """Return the ids of the problems that a vector is optimised on."""
    if adapt_on == "all":
        return frozenset(p.id for p in problems)
    return halves(problems, seed)[0 if adapt_on == "first_half" else 1]


def setting_of(prepared: Prepared) -> Setting:
    """Return what a cell's method is told."""
    cell = prepared.cell
    return Setting(
        cell.optimization,
        cell.seeds,
        prepared.adapt_prompts,
        model_key(cell.model, prepared.source, prepared.dtypes[0]),
        prompts_key(prepared.adapt_prompts),
        cell.engine,
        prepared.engine_key,
        cell.plain["checkpoint_every"],
    )


def generation_of(prepared: Prepared) -> tuple[str, list[Request], Decoding, dict[str, Any]]:
    """Return what, besides the adaptation, decides a cell's completions: label, requests, decoding rules, and the rest of the key."""
    cell = prepared.cell
    keys = {
        "model": model_key(cell.model, prepared.source, prepared.dtypes[1]),
        "prompts": prompts_key(prepared.prompts),
        "engine": prepared.engine_key,
    }
    decoding = cell.evaluation.resolved(prepared.source.generation_config)
    return f"{cell.method.name}-{cell.names['task']}", cell.evaluation.requests(prepared.prompts), decoding, keys


def record_file(prepared: Prepared) -> Path:
    """Return where the record of a finished cell lies."""
    cell = prepared.cell
    facts = cell.facts(prepared.problems, prepared.source.fingerprint, prepared.device)
    label = slug("-".join([facts["model"], facts["task"], facts["method"], f"seed{facts['seed']}"]))
    return Path(cell.plain["results_dir"]) / "runs" / cell.study / record_name(label, facts)


def model_key(config: ModelConfig, source: Source, dtype: torch.dtype) -> dict[str, Any]:
    """Return what identifies model and arithmetic in a stage's key."""
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


def prompts_key(prompts: list[Prompt]) -> str:
    """Return what identifies prompts in a stage's key."""
    return digest([[p.problem_id, p.token_ids] for p in prompts])
