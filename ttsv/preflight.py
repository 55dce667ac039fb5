"""What a run will use and need, said before anything heavy starts and before anything is written."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil
import torch
from huggingface_hub.constants import HF_HUB_CACHE
from transformers import AutoConfig, PretrainedConfig

from ttsv.activation_checkpointing import kept_bytes
from ttsv.evaluation import Evaluation
from ttsv.optimization import Optimization
from ttsv.records import UserError
from ttsv.weights import ModelConfig, download_size, find, parameter_count

log = logging.getLogger(__name__)

MEMORY_OPTIONS = (
    "recipe.evaluation.decoding.batch_size or recipe.optimization.micro_batch_size; with recipe=paper, batch_size and shard_size "
    "change what is computed, not only its memory"
)

MEAN_PROMPT_TOKENS = 150
"""A round figure for mathematics problems in the released template, used before a tokenizer is at hand."""


@dataclass(frozen=True)
class Work:
    """How much a cell computes at most: numbers of updates, rows and tokens."""

    updates: int
    rollout_tokens: int
    loss_tokens: int
    evaluation_tokens: int
    rollout_steps: int
    evaluation_steps: int


@dataclass(frozen=True)
class Machine:
    """The machine's measured rates: matrix products (FLOP/s) in a dtype, and reading of memory (bytes/s)."""

    device: torch.device
    flops: float
    bandwidth: float
    memory: int


@dataclass(frozen=True)
class Weights:
    """Where a model's weights are, in words; how many parameters they hold, where that is known; and why they cannot be had, if so."""

    where: str
    parameters: float | None
    folder: Path | None = None
    missing: str | None = None


@dataclass(frozen=True)
class Report:
    """What a cell will use and need, a line each, and what is missing, if anything."""

    lines: tuple[str, ...]
    missing: str | None


def weights(config: ModelConfig) -> Weights:
    """Look for a model's weights without downloading them."""
    try:
        found = find(config)
        if found is not None:
            count = parameter_count(found) if found.is_dir() else config.parameters
            return Weights("on disk", count, found if found.is_dir() else None)
        size = download_size(config)
    except UserError as error:
        return Weights("not at hand", config.parameters, missing=str(error))
    folder = Path(HF_HUB_CACHE)
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    missing = None
    if size > free:
        missing = f"{config.id} needs {_gib(size)} in {folder}, where {_gib(free)} are free; make room, or set HF_HOME to a larger disk"
    return Weights(f"{_gib(size)} to download", config.parameters or size / 2, missing=missing)


def amount(options: Optimization | None, evaluation: Evaluation, adapted_on: int, problems: int) -> Work:
    """Return the most that a cell can compute; ``options`` is None for methods that optimise nothing."""
    sampling = evaluation.decoding.sampling
    rows = problems * evaluation.samples
    batches = -(-rows // evaluation.decoding.batch_size)
    evaluation_tokens, evaluation_steps = rows * sampling.max_new_tokens, batches * sampling.max_new_tokens
    if options is None:
        return Work(0, 0, 0, evaluation_tokens, 0, evaluation_steps)
    updates = options.total_updates(adapted_on)
    rows_per_update = options.batch_size if options.fill_last_batch else min(options.batch_size, adapted_on)
    cap = options.rollout.max_new_tokens
    width = options.length + MEAN_PROMPT_TOKENS + cap
    return Work(
        updates,
        updates * rows_per_update * cap,
        updates * rows_per_update * width,
        evaluation_tokens,
        -(-updates // options.rollout_updates) * cap,
        evaluation_steps,
    )


@lru_cache(maxsize=4)
def measure(device: torch.device, dtype: torch.dtype) -> Machine:
    """Measure the machine for about half a second, once per process, so before it holds a model of its own."""
    size = 4096 if device.type == "cuda" else 768
    left, right = torch.randn(size, size, device=device).to(dtype), torch.randn(size, size, device=device).to(dtype)
    flops = 2 * size**3 / _seconds(lambda: left @ right, device)
    block = torch.zeros(2**26 if device.type == "cuda" else 2**24, device=device)
    bandwidth = block.numel() * 4 / _seconds(lambda: block.sum(), device)
    memory = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return Machine(device, flops, bandwidth, memory)


def hours(work: Work, parameters: float, element: int, machine: Machine) -> float:
    """Return a rough upper bound of a cell's time in hours, from the measured rates: 2 operations a parameter and token.

    A decoding step reads every weight once; the loss costs a forward pass and the backward pass to the inputs. Attention and the
    sampling of tokens are left out and small models reach a smaller share of the rate: a factor of 2 either way is no surprise.
    """
    read = parameters * element / machine.bandwidth
    decode = (work.rollout_tokens + work.evaluation_tokens) * 2 * parameters / machine.flops
    steps = (work.rollout_steps + work.evaluation_steps) * read
    loss = work.loss_tokens * 4 * parameters / machine.flops
    return (max(decode, steps) + loss) / 3600


def memory_needed(
    config: PretrainedConfig, parameters: float, element: int, options: Optimization | None, evaluation: Evaluation
) -> float:
    """Return a rough peak in bytes: the weights, and the larger of the evaluation's keys and values and one loss step's activations."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_token = 2 * text.num_hidden_layers * heads * head * element
    cache = (
        evaluation.decoding.batch_size * (MEAN_PROMPT_TOKENS + evaluation.decoding.sampling.max_new_tokens) * per_token
    )
    if options is None:
        return float(parameters * element + cache)
    rows = options.shard_size or options.micro_batch_size or options.batch_size
    cap = options.rollout.max_new_tokens
    tokens = rows * (options.length + MEAN_PROMPT_TOKENS + cap)
    kept = kept_bytes(config, element, checkpointed=options.activation_checkpointing is True)
    logits = rows * cap * text.vocab_size * (element + 4)
    return float(parameters * element + max(cache, tokens * kept + logits))


def check(
    model: ModelConfig,
    device: torch.device,
    dtypes: tuple[torch.dtype, torch.dtype],
    options: Optimization | None,
    evaluation: Evaluation,
    adapted_on: int,
    problems: int,
    host_bytes: int = 0,
    device_copies: int = 1,
) -> Report:
    """Say what a cell will use and need; ``dtypes`` are those of optimisation and evaluation. Nothing is written.

    ``host_bytes`` per parameter are held beside the model by methods that move its weights, which lie ``device_copies`` times there.
    """
    found = weights(model)
    machine = measure(device, dtypes[1])
    work = amount(options, evaluation, adapted_on, problems)
    size = f"{found.parameters / 1e9:.2f} billion parameters, " if found.parameters else ""
    lines = [
        f"model      {model.name}: {size}{found.where}",
        f"device     {device} ({psutil.cpu_count(logical=False) or psutil.cpu_count()} cores), "
        f"optimise in {_name(dtypes[0])}, evaluate in {_name(dtypes[1])}; "
        f"measured {machine.flops / 1e9:,.0f} GFLOP/s, {machine.bandwidth / 1e9:.0f} GB/s",
        f"problems   {problems}, of which {adapted_on} to optimise on",
        f"tokens     at most {_count(work.rollout_tokens)} rollout, {_count(work.loss_tokens)} loss ({work.updates} updates), "
        f"{_count(work.evaluation_tokens)} evaluation",
    ]
    missing = [found.missing] if found.missing else []
    if found.parameters:
        element = max(torch.empty(0, dtype=d).element_size() for d in dtypes)
        held = found.parameters * element * device_copies
        need = held
        if found.folder:
            config = _read_config(model, found.folder)
            need = memory_needed(config, found.parameters * device_copies, element, options, evaluation)
        duration = _duration(hours(work, found.parameters, element, machine))
        lines.append(
            f"time       at most about {duration} for this cell, within a factor of 2; what is finished is reused"
        )
        lines.append(
            f"memory     {'about' if found.folder else 'at least'} {_gib(need)}, {_gib(machine.memory)} are free"
        )
        if held > machine.memory:
            missing.append(
                f"the weights of {model.name} alone need {_gib(held)} in {_name(dtypes[0])}, {_gib(machine.memory)} are free on {device}. "
                f"Use a machine with more memory, or a smaller model (model=qwen2_5_math_1_5b, model=smollm2_135m)"
            )
        elif found.parameters * host_bytes > (free := psutil.virtual_memory().available):
            missing.append(
                f"this method holds {host_bytes} bytes a parameter in the host's memory, {_gib(found.parameters * host_bytes)}, and "
                f"{_gib(free)} are free. Use method=em_lora, a smaller model, or a machine with more memory"
            )
        elif need > machine.memory:
            lines.append(f"           that may not fit; if so, lower {MEMORY_OPTIONS}")
    return Report(tuple(lines), "\n".join(missing) or None)


def _read_config(model: ModelConfig, folder: Path) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"transformers cannot load {model.name} from {folder}: {error}") from error


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _count(tokens: int) -> str:
    return f"{tokens / 1e6:.2f} M" if tokens >= 1e5 else f"{tokens / 1e3:.1f} k"


def _duration(hours_: float) -> str:
    return f"{hours_:.1f} hours" if hours_ >= 1 else f"{max(1, round(60 * hours_))} minutes"


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    function()
    best = float("inf")
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
