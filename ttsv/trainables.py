"""What an optimisation moves: named tensors in fp32 on the CPU, the adaptation they stand for, and their gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ttsv.adaptations import Adaptation, ChangedWeights, EmbeddingPrefix, EmbeddingPrefixes, LowRank, peft_name
from ttsv.loss import entropy_backward, entropy_gradient
from ttsv.models import LanguageModel
from ttsv.optimization import Optimization
from ttsv.ranks import WHOLE, Share
from ttsv.records import Prompt
from ttsv.soft_prompt import SoftPrompt

Values = dict[str, Tensor]


class Trainable(Protocol):
    """Named tensors that an optimisation moves. Implementations hold no model, so that other processes can be handed them."""

    @property
    def length(self) -> int:
        """The number of virtual tokens."""
        ...

    @property
    def keeps(self) -> bool:
        """Whether values are kept on the way."""
        ...

    def initial(self, lm: LanguageModel) -> Values:
        """Return the values before the first update."""
        ...

    def adaptation(self, values: Values, metadata: Mapping[str, Any]) -> Adaptation:
        """Return the adaptation that these values stand for."""
        ...

    def gradient(
        self,
        lm: LanguageModel,
        values: Values,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        options: Optimization,
        share: Share = WHOLE,
    ) -> tuple[float, Values]:
        """Return the loss of fixed responses (nats) and its gradient, by the names of the values; or a share's part of both."""
        ...


@dataclass(frozen=True)
class SharedPrefix:
    """One soft prompt for all problems: ``vectors`` (L, d). With ``maximize`` the gradient points up the entropy."""

    vectors: Tensor
    maximize: bool = False
    keeps: bool = True

    @property
    def length(self) -> int:
        """The number of virtual tokens."""
        return len(self.vectors)

    def initial(self, lm: LanguageModel) -> Values:
        """Return the untrained vectors."""
        return {"vectors": self.vectors}

    def adaptation(self, values: Values, metadata: Mapping[str, Any]) -> EmbeddingPrefix:
        """Return them as a soft prompt."""
        return EmbeddingPrefix(SoftPrompt(values["vectors"], metadata))

    def gradient(
        self,
        lm: LanguageModel,
        values: Values,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        options: Optimization,
        share: Share = WHOLE,
    ) -> tuple[float, Values]:
        """Return loss and gradient in the vectors."""
        loss, gradient = entropy_gradient(lm, values["vectors"], prompts, responses, options, share)
        return loss, {"vectors": -gradient.cpu() if self.maximize else gradient.cpu()}


@dataclass(frozen=True)
class PrefixPerProblem:
    """A soft prompt for each of P problems, all starting from ``vectors`` (L, d)."""

    vectors: Tensor
    problem_ids: tuple[str, ...]
    keeps: bool = False

    @property
    def length(self) -> int:
        """The number of virtual tokens."""
        return len(self.vectors)

    def initial(self, lm: LanguageModel) -> Values:
        """Return the untrained vectors, (P, L, d)."""
        return {"vectors": self.vectors.repeat(len(self.problem_ids), 1, 1)}

    def adaptation(self, values: Values, metadata: Mapping[str, Any]) -> EmbeddingPrefixes:
        """Return them with their problems."""
        return EmbeddingPrefixes(self.problem_ids, values["vectors"])

    def gradient(
        self,
        lm: LanguageModel,
        values: Values,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        options: Optimization,
        share: Share = WHOLE,
    ) -> tuple[float, Values]:
        """Return the mean loss, and each problem's own gradient, that of its mean over its responses."""
        rows = torch.tensor([self.problem_ids.index(prompt.problem_id) for prompt in prompts])
        loss, by_row = entropy_gradient(lm, values["vectors"][rows], prompts, responses, options, share)
        counts = torch.bincount(rows, minlength=len(self.problem_ids)).clamp(min=1)
        summed = torch.zeros_like(values["vectors"]).index_add_(0, rows, by_row.cpu())
        return loss, {"vectors": summed / counts[:, None, None]}


@dataclass(frozen=True)
class AllWeights:
    """Every parameter of the model. The model itself never changes for longer than a rollout or a gradient."""

    keeps: bool = False
    length: int = 0

    def initial(self, lm: LanguageModel) -> Values:
        """Return the model's own weights; in fp32, they share its memory on the CPU."""
        return {name: p.detach().float().cpu() for name, p in lm.model.named_parameters()}

    def adaptation(self, values: Values, metadata: Mapping[str, Any]) -> ChangedWeights:
        """Return them as changed weights."""
        return ChangedWeights(values)

    def gradient(
        self,
        lm: LanguageModel,
        values: Values,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        options: Optimization,
        share: Share = WHOLE,
    ) -> tuple[float, Values]:
        """Return loss and gradient in all weights."""
        with ChangedWeights(values).applied(lm):
            return _weight_gradient(lm, "", prompts, responses, options, share)


@dataclass(frozen=True)
class LoRA:
    """PEFT's low-rank adapters on all linear layers but the output's: rank ``r``, scale ``alpha / r``, initialised under ``seed``."""

    r: int
    alpha: int
    seed: int
    keeps: bool = True
    length: int = 0
    config: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        config = {"r": self.r, "lora_alpha": self.alpha, "lora_dropout": 0.0, "target_modules": "all-linear"}
        object.__setattr__(self, "config", {**config, "task_type": "CAUSAL_LM"})

    def initial(self, lm: LanguageModel) -> Values:
        """Return the adapter's weights as PEFT initialises them: a random projection, and zeros behind it."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            with LowRank({}, self.config).applied(lm):
                parameters = dict(lm.model.named_parameters())
                return {peft_name(n): p.detach().float().cpu().clone() for n, p in parameters.items() if "lora_" in n}

    def adaptation(self, values: Values, metadata: Mapping[str, Any]) -> LowRank:
        """Return them as an adapter."""
        return LowRank(values, self.config)

    def gradient(
        self,
        lm: LanguageModel,
        values: Values,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        options: Optimization,
        share: Share = WHOLE,
    ) -> tuple[float, Values]:
        """Return loss and gradient in the adapter's weights."""
        with LowRank(values, self.config).applied(lm):
            loss, found = _weight_gradient(lm, "lora_", prompts, responses, options, share)
        return loss, {peft_name(name): gradient for name, gradient in found.items()}


def _weight_gradient(
    lm: LanguageModel,
    part: str,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    options: Optimization,
    share: Share,
) -> tuple[float, Values]:
    """Return loss and gradient in the parameters whose name holds ``part``; afterwards none wants a gradient."""
    parameters = {name: p for name, p in lm.model.named_parameters() if part in name}
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        loss = entropy_backward(lm, torch.zeros(0, lm.hidden_size), prompts, responses, options, share)
        zero = torch.zeros(())
        return loss, {
            n: (zero.expand(p.shape) if p.grad is None else p.grad.float().cpu()) for n, p in parameters.items()
        }
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None
