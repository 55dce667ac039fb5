"""Run one cell, or with ``-m`` a sweep: problems and prompts, then adapt, generate, grade, then the table."""

import gc
import json
import logging
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from tqdm.contrib.logging import logging_redirect_tqdm

from ttsv import preflight, stages
from ttsv.config import Cell, build, component
from ttsv.engines.base import refuse_unsupported
from ttsv.grading import configuration, grade
from ttsv.methods.base import Setting
from ttsv.models import LanguageModel, Source, open_source, resolve_device, resolve_dtype
from ttsv.prompts import render_prompts
from ttsv.provenance import collect
from ttsv.records import Problem, Prompt, UserError
from ttsv.report import write_report
from ttsv.store import Outcome, Store, digest, record_name, slug, write_atomically
from ttsv.tasks import halves, subset
from ttsv.weights import ModelConfig

log = logging.getLogger("ttsv.run")

CONDITIONS = (
    "prompt.",
    "task.",
    "recipe.evaluation.",
    "recipe.dtype.",
    "scale.evaluation_tokens",
    "grader.",
    "limit_seed",
    "split_seed",
)
"""Overrides that cells of one table share; they stand in its title."""

VARIANTS = ("recipe.optimization.", "scale.", "method.", "engine.", "seeds.", "vector=")
"""Overrides that tell runs of one method apart; they stand beside its name."""


def run(cell: Cell) -> Path:
    """Run one cell and return its record file. Finished stages are reused, an interrupted one is gone on with."""
    plain = cell.plain
    device = resolve_device(plain["device"])
    dtypes = tuple(resolve_dtype(plain["recipe"]["dtype"][use], device) for use in ("adapt", "evaluate"))
    refuse_unsupported(cell.engine, cell.method.kind)
    data_dir = Path(plain["data_dir"]).expanduser() if plain["data_dir"] else None
    _require(cell, data_dir)
    loaded = cell.task.read(data_dir)
    problems = subset(loaded.problems, plain["limit"], plain["limit_seed"])
    adapted_on = adaptation_problems(problems, plain["adapt_on"], plain["split_seed"])
    _announce(cell, device, (dtypes[0], dtypes[1]), len(adapted_on), len(problems))

    source = _source(cell.model)
    options = cell.optimization
    prompts = render_prompts(
        problems, cell.prompt, source.tokenizer, options.max_prompt_tokens, options.overlong_prompt
    )
    chosen = [p for p in prompts if p.problem_id in adapted_on]
    store = Store(Path(plain["results_dir"]) / "stages")
    engine_key = {"name": cell.names["engine"], **plain["engine"], "device": device.type}
    model_keys = [_model_key(cell.model, source, dtype) for dtype in dtypes]
    setting = Setting(
        options,
        cell.seeds,
        chosen,
        model_keys[0],
        _prompts_key(chosen),
        cell.engine,
        engine_key,
        plain["checkpoint_every"],
    )

    facts = _facts(cell, problems, source.fingerprint, device)

    def provenance() -> dict[str, Any]:
        return {
            **collect(device),
            "task": dict(loaded.provenance),
            "model": _model_record(cell.model, source),
            "seeds": plain["seeds"],
        }

    adapted = stages.adapt(store, cell.method, setting, lambda: _language_model(source, dtypes[0], device), provenance)
    if plain["stop_after"] == "adapt":
        return _record(cell, facts, adapted_on, store, {"adapt": adapted})
    generated = stages.generate(
        store,
        f"{cell.method.name}-{cell.names['task']}",
        cell.evaluation.requests(prompts),
        stages.read_adaptation(adapted.stage.path),
        cell.evaluation.resolved(source.generation_config),
        cell.engine,
        {"model": model_keys[1], "prompts": _prompts_key(prompts), "engine": engine_key},
        lambda: _language_model(source, dtypes[1], device),
        provenance,
    )
    if plain["stop_after"] == "generate":
        return _record(cell, facts, adapted_on, store, {"adapt": adapted, "generate": generated})
    graded = grade(store, generated.stage, problems, cell.grader, provenance)
    other = grade(store, generated.stage, problems, cell.second_grader, provenance)
    return _record(
        cell,
        facts,
        adapted_on,
        store,
        {"adapt": adapted, "generate": generated, "grade": graded, "grade_second": other},
    )


def _record(
    cell: Cell, facts: dict[str, Any], adapted_on: frozenset[str], store: Store, folders: dict[str, Outcome]
) -> Path:
    """Write the run record: what the cell was, and which stage directories hold its results. It replaces the cell's older record."""
    plain = cell.plain
    record = {
        "facts": facts,
        "optimised_ids": sorted(adapted_on),
        "stages": {name: outcome.stage.path.relative_to(store.root).as_posix() for name, outcome in folders.items()},
        "config": plain,
    }
    label = slug("-".join([facts["model"], facts["task"], facts["method"], f"seed{facts['seed']}"]))
    file = Path(plain["results_dir"]) / "runs" / cell.study / record_name(label, facts)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(record, indent=1))
    reused = [name for name, outcome in folders.items() if outcome.reused]
    log.info(
        "%s (seed %s) is finished%s: %s",
        facts["method"],
        facts["seed"],
        f" ({', '.join(reused)} reused)" if reused else "",
        file,
    )
    return file


def adaptation_problems(problems: list[Problem], adapt_on: str, seed: int) -> frozenset[str]:
    """Return the ids of the problems that a vector is optimised on."""
    if adapt_on == "all":
        return frozenset(p.id for p in problems)
    return halves(problems, seed)[0 if adapt_on == "first_half" else 1]


_failures: list[str] = []
"""Cells of this process's sweep that could not be finished, with the reason."""


class TableAfterSweep(Callback):
    """Prints the study's table once, after a single run or at the end of a sweep, and the cells that failed."""

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """After a single run."""
        self._print(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """After a sweep; leaves with status 2 if a cell failed."""
        self._print(config)
        if _failures:
            print(
                f"\n{len(_failures)} cells failed; the same command tries them again:",
                *_failures,
                sep="\n  ",
                file=sys.stderr,
            )
            sys.exit(2)

    def _print(self, config: DictConfig) -> None:
        results, study = Path(config.results_dir), str(config.study)
        if list((results / "runs" / study).glob("*.json")):
            print(f"\n{write_report(results, study)}\nKept as {results / 'runs' / study}/summary.md and summary.csv")
            component(config.tracking, "tracking").study(results / "runs" / study)


def _fail(reason: str) -> None:
    """Say why a cell failed; a sweep goes on with the next one, a single run ends with status 2."""
    print(f"\nerror: {reason}", file=sys.stderr)
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        sys.exit(2)
    _failures.append(f"{' '.join(HydraConfig.get().overrides.task)}: {reason.splitlines()[0]}")


def _facts(cell: Cell, problems: list[Problem], weights: str, device: torch.device) -> dict[str, Any]:
    plain = cell.plain
    # Runs that differ in their seeds alone stand in one table, as seeds of one method.
    evaluation = {name: value for name, value in plain["recipe"]["evaluation"].items() if name != "seed"}
    return {
        "model": cell.model.name,
        **{group: cell.names[group] for group in ("task", "prompt", "recipe", "scale", "grader")},
        "conditions": _overrides(cell, CONDITIONS),
        # What only shapes a vector says nothing of the model alone.
        "variant": _overrides(cell, VARIANTS, but=CONDITIONS) if cell.method.kind else "",
        "method": cell.method.name,
        "seed": plain["seed"],
        "limit": plain["limit"],
        "adapt_on": plain["adapt_on"],
        "options": digest([plain["recipe"]["optimization"], plain["engine"], plain["method"]])[:16]
        if cell.method.kind
        else "",
        "weights": weights[:16],
        "device": device.type,
        "grader_config": digest(configuration(cell.grader))[:16],
        "prompt_config": digest(plain["prompt"])[:16],
        "problems": digest([[p.id, p.question, p.gold] for p in problems])[:16],
        "evaluation": digest([evaluation, plain["recipe"]["dtype"]])[:16],
    }


def _overrides(cell: Cell, prefixes: tuple[str, ...], but: tuple[str, ...] = ()) -> str:
    """Return the overrides of the command line below these keys, in a fixed order; those below ``but`` are left out."""
    chosen = [o for o in cell.overrides if o.lstrip("+").startswith(prefixes)]
    return " ".join(sorted(o for o in chosen if not (but and o.lstrip("+").startswith(but))))


def _require(cell: Cell, data_dir: Path | None) -> None:
    """Refuse a cell whose problems or weights are not to be had, naming all that is missing at once, before anything is loaded."""
    missing = []
    try:
        log.info("problems of %s: %s", cell.task.name, cell.task.availability(data_dir))
    except UserError as error:
        missing = [str(error), preflight.weights(cell.model).missing]
    if any(missing):
        raise UserError("\n".join(filter(None, missing)))


def _announce(
    cell: Cell, device: torch.device, dtypes: tuple[torch.dtype, torch.dtype], adapted_on: int, problems: int
) -> None:
    """Print what the preflight says; refuse the cell if something is missing."""
    options = cell.optimization if cell.method.optimizes else None
    report = _preflight(cell.model, device, dtypes, options, cell.evaluation, adapted_on, problems)
    title = f"\n{cell.method.name} on {cell.names['task']}, seed {cell.plain['seed']}"
    print(title, *report.lines, sep="\n  ", file=sys.stderr)
    if report.missing:
        raise UserError(report.missing)


# Kept for the next cells of a sweep.
_preflight = lru_cache(maxsize=64)(preflight.check)
_source = lru_cache(maxsize=1)(open_source)
_held: dict[tuple[Source, torch.dtype, torch.device], LanguageModel] = {}


def _language_model(source: Source, dtype: torch.dtype, device: torch.device) -> LanguageModel:
    """Return the loaded model; at most one is in memory, also while another is loaded in its place."""
    wanted = (source, dtype, device)
    if wanted not in _held:
        _held.clear()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        _held[wanted] = source.load(dtype, device)
    return _held[wanted]


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


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def main(config: DictConfig) -> None:
    """Hydra's entry point: run the composed cell, turning what the user can mend into a message without a stack trace."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "datasets", "filelock", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        with logging_redirect_tqdm():
            cell = build(config)
            cell.tracking.cell(run(cell))
    except UserError as error:
        _fail(str(error))
    except torch.OutOfMemoryError as error:
        _fail(
            f"{error}\nFinished stages are kept; this one starts anew with other options. Lower {preflight.MEMORY_OPTIONS}"
        )
    except OSError as error:
        _fail(f"{error}\nWhat was finished is kept; the same command goes on from there")
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
