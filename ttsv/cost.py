"""What work costs: tokens from the options alone, hours from a roofline, memory. The preflight, the plan and the benchmark share it.

The roofline: two operations a parameter and token; a decoding step multiplies, or reads every weight and the keys and values once,
whichever takes longer. Stages reach a share of it, which is stated here and replaced by measurements where there are any.
"""

from dataclasses import dataclass
from math import ceil

from ttsv.activation_checkpointing import kept_bytes
from ttsv.evaluation import Evaluation
from ttsv.loss import MICRO_BATCH_TOKENS
from ttsv.machine import Machine
from ttsv.optimization import Optimization
from ttsv.weights import Dimensions

MEAN_PROMPT_TOKENS = 150
"""A round figure for mathematics problems in the released template, used before a tokenizer is at hand."""

DECODING_SHARE = 0.25
"""The share of the roofline that decoding reaches: 26 % of it on a CPU, see results/benchmark.md."""

LOSS_SHARE = 0.6
"""The share of the roofline that loss steps and prefill reach: 59 % of it on a CPU, see results/benchmark.md."""

LAYER_SECONDS = 0.14e-3
"""What each layer adds to a decoding step on CUDA, whose weights are then read at the full rate: its many small kernels, replayed as a
graph. Measured on an H100, see results/benchmark_h100.md; where steps are launched kernel by kernel it is 0.7 to 1 ms."""

LAUNCH_SECONDS = 2.5e-3
"""What launching a layer's kernels adds to each micro-batch of a loss step on CUDA, forth and back; measured there as well."""

HOST_BANDWIDTH = 5e9
"""Bytes a second at which a host goes through what a method keeps there, at each update: an assumption."""


@dataclass(frozen=True)
class Shape:
    """What of a model decides its cost: parameters of the layers and of the output head (vocabulary x d), and ``element`` bytes of each.

    ``depth`` layers; ``cache`` bytes of keys and values, and ``kept`` bytes of activations for a gradient, both per token;
    ``kept_checkpointed`` with activation checkpointing.
    """

    parameters: float
    head: float
    element: int
    layers: float
    depth: int
    vocabulary: int
    cache: float
    kept: float
    kept_checkpointed: float = 0.0


@dataclass(frozen=True)
class Work:
    """What an optimisation computes at most; the defaults are those of a method that optimises nothing.

    Each update draws ``rows`` responses of ``cap`` tokens behind ``prompt`` tokens on average, virtual ones included. Its loss takes
    logits at ``predicted`` tokens a row, and costs as much as so many forward passes of the layers and the head: 2 with the gradient of
    the inputs alone, 3 with that of the weights. ``micro_rows`` are computed at once, ``checkpointed`` or not; the responses of
    ``at_once`` updates are drawn together. A method that moves the weights holds ``host_bytes`` per parameter in the host's memory and
    has the weights ``device_copies`` times on the device.
    """

    updates: int = 0
    rows: int = 0
    prompt: float = 0.0
    cap: int = 0
    predicted: float = 0.0
    layer_passes: float = 2.0
    head_passes: float = 2.0
    micro_rows: int = 0
    at_once: int = 1
    checkpointed: bool = False
    host_bytes: int = 0
    device_copies: int = 1

    @property
    def rollout_tokens(self) -> int:
        """Tokens of all rollouts."""
        return self.updates * self.rows * self.cap

    @property
    def loss_tokens(self) -> int:
        """Tokens that the loss steps go through: prompts, virtual tokens and responses."""
        return round(self.updates * self.rows * (self.prompt + self.cap))


@dataclass(frozen=True)
class Answers:
    """What an evaluation generates at most: ``rows`` responses of ``cap`` tokens, ``batch`` at once, behind ``prompt`` tokens."""

    rows: int
    batch: int
    prompt: float
    cap: int

    @property
    def tokens(self) -> int:
        """Tokens of all responses."""
        return self.rows * self.cap


@dataclass(frozen=True)
class Seconds:
    """How long the three kinds of work take."""

    rollout: float = 0.0
    loss: float = 0.0
    evaluation: float = 0.0

    @property
    def hours(self) -> float:
        """Their sum in hours."""
        return (self.rollout + self.loss + self.evaluation) / 3600


AS_STATED = Seconds(1.0, 1.0, 1.0)
"""Factors on the model's times where nothing has been measured."""


def work_of(options: Optimization, problems: int, prompt: float, virtual: int) -> Work:
    """Return the work of the optimisation loop on so many problems, whose prompts have ``prompt`` tokens on average."""
    rows = options.batch_size if options.fill_last_batch else min(options.batch_size, problems)
    cap = options.rollout.max_new_tokens
    micro_rows = min(rows, options.shard_size or options.micro_batch_size or rows)
    return Work(
        options.total_updates(problems),
        rows,
        prompt + virtual,
        cap,
        predicted=cap,
        micro_rows=micro_rows,
        at_once=options.rollout_updates,
        checkpointed=options.activation_checkpointing is True,
    )


def answers_of(evaluation: Evaluation, problems: int, prompt: float) -> Answers:
    """Return the work of an evaluation of so many problems."""
    rows = problems * evaluation.samples
    return Answers(rows, min(rows, evaluation.decoding.batch_size), prompt, evaluation.decoding.sampling.max_new_tokens)


def shape(parameters: float, sizes: Dimensions | None, element: int) -> Shape:
    """Return what decides the cost of a model; where its sizes are not known, keys and values and activations count nothing."""
    if sizes is None:
        return Shape(parameters, 0.0, element, parameters, 30, 0, 0.0, 0.0, 0.0)
    head = float(sizes.vocab_size * sizes.hidden_size)
    return Shape(
        parameters,
        head,
        element,
        parameters - head * (1 if sizes.tied else 2),
        sizes.num_hidden_layers,
        sizes.vocab_size,
        cache=2.0 * sizes.num_hidden_layers * sizes.num_key_value_heads * sizes.head_dim * element,
        kept=kept_bytes(sizes, element, checkpointed=False),
        kept_checkpointed=kept_bytes(sizes, element, checkpointed=True),
    )


def prefill_seconds(model: Shape, machine: Machine, rows: int, tokens: float) -> float:
    """Return the least seconds for ``tokens`` of ``rows`` prompts, whose logits are needed once each."""
    return 2 * (model.layers * tokens + model.head * rows) / machine.flops


def step_seconds(model: Shape, machine: Machine, rows: int, context: float) -> float:
    """Return the least seconds for one token of each of ``rows`` rows that have ``context`` tokens behind them."""
    used = model.layers + model.head
    read = used * model.element + rows * context * model.cache
    return max(2 * used * rows / machine.flops, read / machine.bandwidth)


def loss_seconds(model: Shape, machine: Machine, layer_tokens: float, head_tokens: float) -> float:
    """Return the least seconds for so many tokens through the layers and the head; a token counts once for each pass."""
    return 2 * (model.layers * layer_tokens + model.head * head_tokens) / machine.flops


def decoding_time(model: Shape, machine: Machine, rows: int, prompt: float, steps: int) -> float:
    """Return about how many seconds a batch takes from its prompts to the last of ``steps`` tokens."""
    step = step_seconds(model, machine, rows, prompt + steps / 2)
    step = step + model.depth * LAYER_SECONDS if machine.device.type == "cuda" else step / DECODING_SHARE
    return prefill_seconds(model, machine, rows, rows * prompt) / LOSS_SHARE + steps * step


def loss_time(model: Shape, machine: Machine, work: Work) -> float:
    """Return about how many seconds the loss steps of an optimisation take, with what the host does at each update."""
    layers, head = work.layer_passes * work.loss_tokens, work.head_passes * work.predicted * work.rows * work.updates
    host = work.updates * work.host_bytes * model.parameters / HOST_BANDWIDTH
    launches = 0.0
    if machine.device.type == "cuda" and work.rows:
        micro_rows = max(
            1, min(work.micro_rows or work.rows, int(MICRO_BATCH_TOKENS["cuda"] / (work.prompt + work.cap)))
        )
        launches = work.updates * ceil(work.rows / micro_rows) * model.depth * work.layer_passes / 2 * LAUNCH_SECONDS
    return loss_seconds(model, machine, layers, head) / LOSS_SHARE + launches + host


def seconds(
    work: Work, answers: Answers | None, models: tuple[Shape, Shape], machine: Machine, factors: Seconds = AS_STATED
) -> Seconds:
    """Return about how long work takes at most; ``models`` are those of optimisation and evaluation.

    ``factors`` are what measured stages of the same kind took, over what this function says of them.
    """
    rollout = 0.0
    if work.cap:
        draws = work.updates / work.at_once
        rollout = draws * decoding_time(models[0], machine, work.at_once * work.rows, work.prompt, work.cap)
    evaluation = 0.0
    if answers is not None:
        for rows in {answers.batch, answers.rows % answers.batch} - {0}:
            count = answers.rows // answers.batch if rows == answers.batch else 1
            evaluation += count * decoding_time(models[1], machine, rows, answers.prompt, answers.cap)
    return Seconds(
        rollout * factors.rollout, loss_time(models[0], machine, work) * factors.loss, evaluation * factors.evaluation
    )


def memory(work: Work, answers: Answers | None, models: tuple[Shape, Shape], machine: Machine) -> float:
    """Return a rough peak in bytes on the device: the weights, and the largest of what decoding and a loss step hold beside them."""
    adapting, evaluating = models
    loss = adapting.parameters * adapting.element * work.device_copies
    width = work.prompt + work.cap
    if width:
        at_once = min(work.micro_rows * width, max(width, MICRO_BATCH_TOKENS[machine.device.type]))
        logits = at_once * work.predicted / width * adapting.vocabulary * 2 * adapting.element
        kept = adapting.kept_checkpointed if work.checkpointed else adapting.kept
        loss += max(at_once * kept + logits, work.at_once * work.rows * width * adapting.cache)
    if answers is None:
        return loss
    cached = answers.batch * (answers.prompt + answers.cap) * evaluating.cache
    return max(loss, evaluating.parameters * evaluating.element + cached)
