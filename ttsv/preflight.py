"""What a run will use and need, said before anything heavy starts and before anything is written."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from transformers import AutoConfig, PretrainedConfig

from ttsv.evaluation import Evaluation
from ttsv.optimization import Optimization
from ttsv.records import UserError
from ttsv.weights import ModelConfig, download_size, find, parameter_count

log = logging.getLogger(__name__)

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


def weights_report(config: ModelConfig) -> tuple[str, float, int]:
    """Say where the weights are; return the sentence, the number of parameters, and the bytes to download.

    Raises:
        UserError: if they are neither on disk nor to be had, or there is no room for them.
    """
    found = find(config)
    if found is None:
        size = download_size(config)
        free = shutil.disk_usage(Path.home()).free
        if size > free:
            raise UserError(
                f"{config.id} needs {_gib(size)} on disk, {_gib(free)} are free; make room, or set HF_HOME to a larger disk"
            )
        return f"{config.id}: {_gib(size)} to download", config.parameters or size / 2, size
    parameters = parameter_count(found) if found.is_dir() else config.parameters or found.stat().st_size * 1.6
    return f"on disk, {parameters / 1e9:.2f} billion parameters", float(parameters), 0


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
        updates * cap,
        evaluation_steps,
    )


def measure(device: torch.device, dtype: torch.dtype) -> Machine:
    """Measure the machine for about half a second."""
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
    kept = text.num_hidden_layers * (8 * text.hidden_size + 3 * text.intermediate_size) * element
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
) -> list[str]:
    """Return lines that say what a cell will use and need; ``dtypes`` are those of optimisation and evaluation.

    Raises:
        UserError: if something is missing, saying what and what to do. Nothing is written.
    """
    where, parameters, download = weights_report(model)
    element = max(torch.empty(0, dtype=d).element_size() for d in dtypes)
    machine = measure(device, dtypes[1])
    work = amount(options, evaluation, adapted_on, problems)
    lines = [
        f"model      {model.name}: {where}",
        f"device     {device} ({psutil.cpu_count(logical=False)} cores), optimise in {_name(dtypes[0])}, evaluate in {_name(dtypes[1])}; "
        f"measured {machine.flops / 1e12:.2f} TFLOP/s, {machine.bandwidth / 1e9:.0f} GB/s",
        f"problems   {problems}, of which {adapted_on} to optimise on",
        f"tokens     at most {_count(work.rollout_tokens)} rollout, {_count(work.loss_tokens)} loss ({work.updates} updates), "
        f"{_count(work.evaluation_tokens)} evaluation",
        f"time       at most about {_duration(hours(work, parameters, element, machine))} for this cell, within a factor of 2; "
        f"what is finished is reused",
    ]
    if download:
        lines.append(f"memory     {_gib(parameters * element)} for the weights alone, {_gib(machine.memory)} free")
        need = parameters * element
    else:
        found = find(model)
        assert found is not None
        need = parameters * element
        if found.is_dir():
            need = memory_needed(
                AutoConfig.from_pretrained(found, local_files_only=True), parameters, element, options, evaluation
            )
        lines.append(f"memory     about {_gib(need)} of {_gib(machine.memory)} free")
    if parameters * element > machine.memory:
        raise UserError(
            "\n".join(lines)
            + f"\nThe weights of {model.name} alone need {_gib(parameters * element)}, and {_gib(machine.memory)} are free on {device}. "
            f"Use a smaller model (MODEL=qwen2_5_math_1_5b, MODEL=smollm2_135m), or a machine with more memory"
        )
    if need > machine.memory:
        lines.append(
            "           that may not fit: lower recipe.evaluation.decoding.batch_size or recipe.optimization.shard_size"
        )
    return lines


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
