"""The options of the optimisation, and what follows from them alone: which rows an update takes, and its learning rate."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ttsv.neutral import deciding
from ttsv.placement import Layout
from ttsv.records import UserError
from ttsv.sampling import Sampling, permutation
from ttsv.soft_prompt import Initialization


@dataclass(frozen=True)
class Seeds:
    """Three independent streams: the initial vector, the order of the problems, and the rollouts."""

    initialization: int
    order: int
    rollout: int


_COUNTS = (
    "length",
    "batch_size",
    "epochs",
    "updates",
    "shard_size",
    "micro_batch_size",
    "rollout_updates",
    "save_every",
    "max_prompt_tokens",
)


@dataclass(frozen=True)
class Optimization:
    """How a vector is optimised. The comments in ``conf/recipe/*.yaml`` say what each option means and which recipe uses which."""

    length: int
    initialization: Initialization
    learning_rate: float
    learning_rate_unit: Literal["absolute", "initial_rms"]
    weight_decay: float
    adam_eps: float
    clip_norm: float | None
    schedule: Literal["constant_within_epoch", "linear"]
    epochs: int | None
    updates: int | None
    batch_size: int
    shard_size: int | None
    fill_last_batch: bool
    rollout: Sampling
    rollout_end: Literal["any_end_token", "eos"]
    entropy: Literal["raw", "sampled"]
    layout: Layout
    loss_mask: Literal["through_end_token", "not_pad_or_eos_token"]
    overlong_prompt: Literal["error", "truncate_right"]
    max_prompt_tokens: int
    reported: Literal["last", "before_collapse"]
    save_every: int | None
    initialization_text: str | None = None
    micro_batch_size: int | None = None
    rollout_updates: int = 1
    activation_checkpointing: Literal["auto", True, False] = "auto"

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.updates is None):
            raise UserError(
                f"give exactly one of optimization.epochs and optimization.updates; got {self.epochs} and {self.updates}"
            )
        for field in _COUNTS:
            value = getattr(self, field)
            if value is not None and value < 1:
                raise UserError(f"optimization.{field}={value} is out of range; expected at least 1")
        if self.shard_size is not None and self.batch_size % self.shard_size:
            raise UserError(f"optimization.shard_size={self.shard_size} does not divide batch_size={self.batch_size}")
        if self.shard_size is not None and self.micro_batch_size is not None:
            raise UserError(
                "optimization.micro_batch_size must be null where shard_size is set: a shard is padded and run as one"
            )

    def key(self) -> dict[str, Any]:
        """Return the options that decide a result, JSON-able."""
        return deciding(asdict(self))

    def total_updates(self, problems: int) -> int:
        """Return the number of updates on ``problems`` prompts."""
        return self.updates if self.updates is not None else int(self.epochs or 0) * self.updates_per_epoch(problems)

    def saves(self, problems: int) -> int:
        """Return after how many updates the vectors are kept: ``save_every``, or once per epoch."""
        return self.save_every or self.updates_per_epoch(problems)

    def updates_per_epoch(self, problems: int) -> int:
        """Return the number of updates that pass once over ``problems`` prompts, the last batch incomplete or filled up."""
        return math.ceil(problems / self.batch_size)


def rows_of_update(options: Optimization, problems: int, update: int, order_seed: int) -> list[int]:
    """Return the indices of the problems in one update's global batch: an epoch is a keyed permutation.

    The last batch of an epoch is filled up with the first rows of that epoch if ``fill_last_batch`` (as accelerate's samplers do), else
    it is shorter.
    """
    epoch, step = divmod(update, options.updates_per_epoch(problems))
    order = permutation(problems, "order", order_seed, epoch)
    chosen = order[step * options.batch_size : (step + 1) * options.batch_size]
    missing = options.batch_size - len(chosen)
    return chosen + [order[i % problems] for i in range(missing)] if options.fill_last_batch else chosen


def learning_rate_factor(options: Optimization, problems: int, update: int) -> float:
    """Return the schedule's factor at ``update``: 1 - 0.99 e/E in epoch e of E, or linear from 1 towards 0 over the updates."""
    total = options.total_updates(problems)
    if options.schedule == "constant_within_epoch":
        per_epoch = options.updates_per_epoch(problems)
        return 1 - 0.99 * (update // per_epoch) / math.ceil(total / per_epoch)
    return 1 - update / total
