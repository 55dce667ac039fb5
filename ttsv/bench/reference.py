"""The loop to beat: the released form in plain operations, written for comparison and used for nothing else.

Batches are padded in the order given, responses come from ``model.generate`` on input embeddings with a stop criterion that decodes
each row at each step, and the loss takes logits, softmax and log-softmax over the whole vocabulary at every position. Every choice is
METHOD's ``paper`` recipe: [V, pad, prompt, response]; in the loss the mask ``ids != pad`` and no position ids; shards of 8 rows, V kept
in fp32.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from ttsv.models import LanguageModel
from ttsv.records import Prompt
from ttsv.sampling import Sampling

SHARD = 8
WINDOW = 24
"""Latest tokens of a row that the stop criterion decodes."""


class StopStrings(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    """Ends a batch once each of its rows holds one of the strings."""

    def __init__(self, lm: LanguageModel, strings: Sequence[str], rows: int) -> None:
        self.lm, self.strings, self.holds = lm, strings, [False] * rows

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Return one verdict for all rows, (B,) bool."""
        for row, ids in enumerate(input_ids[:, -WINDOW:].tolist()):
            recent = self.lm.decode(ids, skip_special=False)
            self.holds[row] = self.holds[row] or any(string in recent for string in self.strings)
        return torch.full((len(input_ids),), all(self.holds), device=input_ids.device)


def rollout(
    lm: LanguageModel, prompts: Sequence[Prompt], vectors: Tensor, sampling: Sampling, stops: Sequence[str]
) -> list[list[int]]:
    """Return one sampled response per prompt, by shards; ``sampling.top_k`` is resolved, ``vectors`` (L, d)."""
    responses: list[list[int]] = []
    for start in range(0, len(prompts), SHARD):
        ids = _generate(
            lm,
            prompts[start : start + SHARD],
            vectors,
            stops,
            max_new_tokens=sampling.max_new_tokens,
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
        )
        responses += ids.tolist()
    return responses


def evaluate(
    lm: LanguageModel, prompts: Sequence[Prompt], vectors: Tensor, cap: int, batch: int, stops: Sequence[str]
) -> list[str]:
    """Return the greedy completions in padded batches of ``batch`` rows and at most ``cap`` new tokens, cut at the last stop string."""
    texts = []
    for start in range(0, len(prompts), batch):
        ids = _generate(lm, prompts[start : start + batch], vectors, stops, max_new_tokens=cap, do_sample=False)
        texts += [lm.decode(row).split(stops[-1])[0] for row in ids.tolist()]
    return texts


def loss(
    lm: LanguageModel, prompts: Sequence[Prompt], responses: Sequence[Sequence[int]], vectors: Tensor
) -> tuple[float, Tensor]:
    """Return the mean over shards of the mean token entropy (nats) and its gradient (L, d)."""
    leaf = vectors.detach().clone().requires_grad_(True)
    shards = range(0, len(prompts), SHARD)
    total = 0.0
    for start in shards:
        rows = slice(start, start + SHARD)
        part = _shard_loss(lm, prompts[rows], responses[rows], leaf) / len(shards)
        torch.autograd.backward(part)
        total += float(part.detach())
    assert leaf.grad is not None
    return total, leaf.grad


def _shard_loss(
    lm: LanguageModel, prompts: Sequence[Prompt], responses: Sequence[Sequence[int]], vectors: Tensor
) -> Tensor:
    pad = lm.pad_token_id
    left = _padded(lm, [p.token_ids for p in prompts], left=True)
    right = _padded(lm, responses, left=False)
    ids = torch.cat([left, right], dim=1)
    embeddings, attention = _with_prefix(lm, ids, vectors, ids != lm.pad_token_id)
    logits = lm.model(inputs_embeds=embeddings, attention_mask=attention).logits.float()
    entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    config = lm.model.config
    counted = right != (config.pad_token_id or config.eos_token_id or pad)
    of_response: Tensor = entropy[:, -right.shape[1] - 1 : -1] * counted
    return of_response.sum() / counted.sum()


@torch.no_grad()
def _generate(
    lm: LanguageModel, prompts: Sequence[Prompt], vectors: Tensor, stops: Sequence[str], **settings: Any
) -> Tensor:
    ids = _padded(lm, [p.token_ids for p in prompts], left=True)
    lengths = torch.tensor([len(p.token_ids) for p in prompts], device=lm.device)
    inside = torch.arange(ids.shape[1], device=lm.device) >= ids.shape[1] - lengths[:, None]
    embeddings, attention = _with_prefix(lm, ids, vectors, inside)
    new: Tensor = lm.model.generate(
        inputs_embeds=embeddings,
        attention_mask=attention,
        stopping_criteria=StoppingCriteriaList([StopStrings(lm, stops, len(prompts))]),
        pad_token_id=lm.pad_token_id,
        **settings,
    )
    return new


def _with_prefix(lm: LanguageModel, ids: Tensor, vectors: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
    prefix = vectors.to(lm.device, lm.dtype).expand(len(ids), -1, -1)
    attention = torch.cat([ids.new_ones(prefix.shape[:2]), attended.long()], dim=1)
    return torch.cat([prefix, lm.embed(ids)], dim=1), attention


def _padded(lm: LanguageModel, rows: Sequence[Sequence[int]], *, left: bool) -> Tensor:
    width = max(len(row) for row in rows)
    fill = [[lm.pad_token_id] * (width - len(row)) for row in rows]
    return torch.tensor(
        [f + list(r) if left else list(r) + f for f, r in zip(fill, rows, strict=True)], device=lm.device
    )
