"""What a run will use and need, said before anything heavy starts and before anything is written."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from huggingface_hub.constants import HF_HUB_CACHE
from transformers import AutoConfig

from ttsv.cost import Answers, Seconds, Shape, Work, memory, seconds, shape
from ttsv.machine import Machine, measure
from ttsv.models import computes_in, dimensions_of
from ttsv.records import UserError
from ttsv.weights import Dimensions, ModelConfig, at_hand, download_size, find, parameter_count

MEMORY_OPTIONS = (
    "recipe.evaluation.decoding.batch_size or recipe.optimization.micro_batch_size; with recipe=paper, batch_size and shard_size "
    "change what is computed, not only its memory"
)


@dataclass(frozen=True)
class Weights:
    """Where a model's weights are, in words; their number and sizes, where known; and why they cannot be had, if so."""

    where: str
    parameters: float | None
    sizes: Dimensions | None
    missing: str | None = None


@dataclass(frozen=True)
class Report:
    """What a cell will use and need, a line each, and what is missing, if anything."""

    lines: tuple[str, ...]
    missing: str | None


def weights(config: ModelConfig) -> Weights:
    """Look for a model's weights without downloading them."""
    try:
        if find(config) is not None:
            folder = at_hand(config)
            if folder is None:
                return Weights("on disk", config.parameters, config.dimensions)
            return Weights("on disk", parameter_count(folder), read_dimensions(config, folder))
        size = download_size(config)
    except UserError as error:
        return Weights("not at hand", config.parameters, config.dimensions, missing=str(error))
    folder = Path(HF_HUB_CACHE)
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    missing = None
    if size > free:
        missing = f"{config.id} needs {gib(size)} in {folder}, where {gib(free)} are free; make room, or set HF_HOME to a larger disk"
    return Weights(f"{gib(size)} to download", config.parameters or size / 2, config.dimensions, missing=missing)


def check(
    model: ModelConfig,
    device: torch.device,
    dtypes: tuple[torch.dtype, torch.dtype],
    work: Work,
    answers: Answers,
    adapted_on: int,
    problems: int,
) -> Report:
    """Say what a cell will use and need; ``dtypes`` are those of optimisation and evaluation. Nothing is written."""
    found = weights(model)
    machine = measure(device, dtypes[1])
    size = f"{found.parameters / 1e9:.2f} billion parameters, " if found.parameters else ""
    optimised = (
        f"{count(work.rollout_tokens)} rollout, {count(work.loss_tokens)} loss ({plural(work.updates, 'update')}), "
    )
    lines = [
        f"model      {model.name}: {size}{found.where}",
        f"device     {device} ({psutil.cpu_count(logical=False) or psutil.cpu_count()} cores), "
        f"optimise in {_name(dtypes[0])}, evaluate in {_name(dtypes[1])}; "
        f"measured {machine.flops / 1e9:,.0f} GFLOP/s, {machine.bandwidth / 1e9:.0f} GB/s",
        *_slow(device, dtypes),
        f"problems   {problems}" + (f", of which {adapted_on} to optimise on" if work.updates else ""),
        f"tokens     at most {optimised if work.updates else ''}{count(answers.tokens)} evaluation",
    ]
    missing = [found.missing] if found.missing else []
    if found.parameters:
        adapting, evaluating = (shape(found.parameters, found.sizes, element_size(dtype)) for dtype in dtypes)
        time = duration(seconds(work, answers, (adapting, evaluating), machine))
        need = memory(work, answers, (adapting, evaluating), machine)
        free = f"{'about' if found.sizes else 'at least'} {gib(need)}, {gib(machine.memory)} are free"
        lines.append(f"time       at most about {time} for this cell, within a factor of 2; what is finished is reused")
        lines.append(f"memory     {free}")
        short = _too_little_memory(model, work, adapting, machine)
        missing += [short] if short else []
        if need > machine.memory and not short:
            lines.append(f"           that may not fit; if so, lower {MEMORY_OPTIONS}")
    return Report(tuple(lines), "\n".join(missing) or None)


def _slow(device: torch.device, dtypes: tuple[torch.dtype, torch.dtype]) -> list[str]:
    """Say which dtypes this processor has no instructions for."""
    slow = sorted({_name(dtype) for dtype in dtypes if not computes_in(dtype, device)})
    if not slow:
        return []
    return [
        f"           it has no instructions for {' and '.join(slow)}, which is many times slower than float32 here; "
        "recipe.dtype.adapt=auto recipe.dtype.evaluate=auto choose what is fast"
    ]


def _too_little_memory(model: ModelConfig, work: Work, weights: Shape, machine: Machine) -> str | None:
    """Say what cannot fit in any case, and what to do."""
    held, host = weights.parameters * weights.element * work.device_copies, weights.parameters * work.host_bytes
    if held > machine.memory:
        return (
            f"the weights of {model.name} alone need {gib(held)}, {gib(machine.memory)} are free on {machine.device}. "
            f"Use a machine with more memory, or a smaller model (model=qwen2_5_math_1_5b, model=smollm2_135m)"
        )
    if host > (free := psutil.virtual_memory().available):
        return (
            f"this method holds {work.host_bytes} bytes a parameter in the host's memory, {gib(host)}, and {gib(free)} are free. "
            "Use method=em_lora, a smaller model, or a machine with more memory"
        )
    return None


def read_dimensions(model: ModelConfig, folder: Path) -> Dimensions:
    """Return the sizes of a model on disk.

    Raises:
        UserError: if transformers does not know its architecture.
    """
    try:
        return dimensions_of(AutoConfig.from_pretrained(folder, local_files_only=True))
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"transformers cannot load {model.name} from {folder}: {error}") from error


def element_size(dtype: torch.dtype) -> int:
    """Return the bytes of one number."""
    return torch.empty(0, dtype=dtype).element_size()


def plural(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def count(tokens: float) -> str:
    """Return a number of tokens, shortly."""
    return f"{tokens / 1e6:.2f} M" if tokens >= 1e5 else f"{tokens / 1e3:.1f} k"


def duration(time: Seconds) -> str:
    """Return a time in hours or minutes."""
    return f"{time.hours:.1f} hours" if time.hours >= 1 else plural(max(1, round(60 * time.hours)), "minute")


def gib(size: float) -> str:
    """Return a size in GiB."""
    return f"{size / 2**30:.1f} GiB"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
