"""The same work through this project's own parts: :mod:`ttsv.rollouts`, :mod:`ttsv.loss` and the HF engine."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ttsv.adaptations import EmbeddingPrefix
from ttsv.engines.base import Decoding, Request
from ttsv.engines.hf import HFEngine
from ttsv.loss import entropy_gradient
from ttsv.models import LanguageModel
from ttsv.optimization import Optimization
from ttsv.records import Prompt
from ttsv.rollouts import rollouts
from ttsv.soft_prompt import SoftPrompt


def rollout(lm: LanguageModel, prompts: Sequence[Prompt], vectors: Tensor, options: Optimization) -> list[list[int]]:
    """Return one sampled response per prompt and update, as the recipe draws them: those of ``rollout_updates`` updates at once."""
    engine: Any = HFEngine()
    updates = [((0, n), prompts) for n in range(options.rollout_updates)]
    drawn = rollouts(lm, updates, EmbeddingPrefix(SoftPrompt(vectors)), options, engine)
    return [list(r.token_ids) for responses in drawn for r in responses]


def loss(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    vectors: Tensor,
    options: Optimization,
) -> tuple[float, Tensor]:
    """Return the recipe's loss (nats) and its gradient (L, d)."""
    return entropy_gradient(lm, vectors, prompts, responses, options)


def evaluate(lm: LanguageModel, prompts: Sequence[Prompt], vectors: Tensor, decoding: Decoding) -> list[str]:
    """Return the completions under the recipe's decoding rules."""
    requests = [Request(prompt, 0, ("benchmark", prompt.problem_id)) for prompt in prompts]
    found: dict[int, str] = {}
    for batch in HFEngine().generate(lm, requests, EmbeddingPrefix(SoftPrompt(vectors)), decoding):
        found |= {i: completion.text for i, completion in batch.items()}
    return [found[i] for i in range(len(prompts))]
