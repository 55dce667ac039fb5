"""The loss of one update: which response tokens count, with which weight, and the gradient in the soft prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ttsv.engines.base import resolve
from ttsv.models import LanguageModel
from ttsv.objectives import raw_entropy, sampled_entropy
from ttsv.optimization import Optimization
from ttsv.placement import Batch, assemble
from ttsv.records import Prompt


def token_weights(mask: Tensor, options: Optimization) -> Tensor:
    """Return each response token's weight in the loss, (B, R), summing to 1.

    Without shards it is one mean over all tokens of the batch; with shards, tokens are averaged within each run of ``shard_size``
    rows and the shards are averaged, as gradients are across processes in the released run.
    """
    size = options.shard_size or len(mask)
    shards = torch.split(mask.float(), size)
    return torch.cat([shard / shard.sum().clamp(min=1) for shard in shards]) / len(shards)


def loss_mask(lm: LanguageModel, response_ids: Tensor, lengths: Tensor, options: Optimization) -> Tensor:
    """Return which response positions count, (B, R) bool.

    ``through_end_token``: the tokens that were written, the first end token included. ``not_pad_or_eos_token``: every column whose id is
    not ``config.pad_token_id or config.eos_token_id``, so the decision to stop may be left out and padding may count.
    """
    if options.loss_mask == "through_end_token":
        return torch.arange(response_ids.shape[1], device=response_ids.device) < lengths[:, None]
    config = lm.model.config
    ignored = config.pad_token_id or config.eos_token_id
    # The released expression raises for a list of eos ids (Llama); leaving out all of them is our reading of what was meant.
    ids = torch.tensor(ignored if isinstance(ignored, list) else [ignored], device=response_ids.device)
    return ~torch.isin(response_ids, ids)


def seen_before(response_ids: Tensor, vocabulary: int) -> Tensor:
    """Return which tokens were generated earlier in each row, (B, R, vocabulary) bool, from ids (B, R)."""
    rows, width = response_ids.shape
    first = torch.full((rows, vocabulary), width, device=response_ids.device)
    steps = torch.arange(width, device=response_ids.device).expand(rows, -1)
    first.scatter_reduce_(1, response_ids, steps, "amin")
    return first[:, None, :] < steps[:, :, None]


def entropy_loss(lm: LanguageModel, batch: Batch, mask: Tensor, weights: Tensor, options: Optimization) -> Tensor:
    """Return the weighted sum of token entropies (scalar, nats), differentiable in the prefix.

    Args:
        lm: the frozen model.
        batch: rows with their responses.
        mask: (B, R) bool, which response positions count.
        weights: (B, R), their weights.
        options: whose entropy is taken.
    """
    width = batch.response_width
    output = lm.model(
        inputs_embeds=batch.embeddings,
        attention_mask=batch.attention,
        position_ids=batch.positions,
        use_cache=False,
        logits_to_keep=width + 1,
    )
    logits = output.logits[:, :-1][mask]
    if options.entropy == "raw":
        values = raw_entropy(logits)
    else:
        sampling = resolve(options.rollout, lm.generation_config)
        seen = (
            None if sampling.repetition_penalty == 1 else seen_before(batch.response_ids, output.logits.shape[-1])[mask]
        )
        values = sampled_entropy(logits, sampling, seen)
    return (values * weights[mask]).sum()


def entropy_backward(
    lm: LanguageModel,
    prefix: Tensor,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    options: Optimization,
) -> float:
    """Return the loss of fixed responses, after adding its gradient to whatever leaves it depends on, by micro-batches.

    With a ``prefix`` (L, d) for all rows, tokens are averaged over the batch; with shards each micro-batch is a shard, padded by itself, as
    on the released run's processes. With a prefix per row (B, L, d), each row is averaged by itself and the gradient is that of the sum
    over rows, so that none depends on its neighbours; the loss returned is their mean.
    """
    layout, size = options.layout, options.shard_size or options.micro_batch_size or len(prompts)
    per_row = prefix.dim() == 3
    starts = range(0, len(prompts), size)
    batches = [
        assemble(
            lm,
            prefix[s : s + size] if per_row else prefix,
            [p.token_ids for p in prompts[s : s + size]],
            list(responses[s : s + size]),
            layout.order,
            layout.loss_positions,
            layout.loss_attention,
        )
        for s in starts
    ]
    masks = [loss_mask(lm, b.response_ids, b.response_lengths, options) for b in batches]
    total = sum(int(mask.sum()) for mask in masks)
    loss = 0.0
    for batch, mask in zip(batches, masks, strict=True):
        if per_row:
            share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        elif options.shard_size:
            share = token_weights(mask, options) / len(batches)
        else:
            share = mask.float() / max(total, 1)
        part = entropy_loss(lm, batch, mask, share, options)
        torch.autograd.backward(part)
        loss += float(part.detach())
    return loss / len(prompts) if per_row else loss


def entropy_gradient(
    lm: LanguageModel,
    vectors: Tensor,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    options: Optimization,
) -> tuple[float, Tensor]:
    """Return the loss of :func:`entropy_backward` and its gradient in a prefix: (L, d), or (B, L, d) for one per row."""
    leaf = vectors.detach().clone().requires_grad_(True)
    loss = entropy_backward(lm, leaf, prompts, responses, options)
    assert leaf.grad is not None
    return loss, leaf.grad
