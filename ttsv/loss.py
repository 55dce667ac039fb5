"""The loss of one update: which response tokens count, with which weight, and the gradient in the soft prompt."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from ttsv.activation_checkpointing import checkpointed
from ttsv.engines.base import resolve
from ttsv.leading_columns import LeadingColumns, leaf_of, pass_on, shareable, shared_columns
from ttsv.models import LanguageModel
from ttsv.objectives import raw_entropy, sampled_entropy
from ttsv.optimization import Optimization
from ttsv.placement import Batch, assemble, group_by_length
from ttsv.ranks import WHOLE, Share
from ttsv.records import Prompt

MICRO_BATCH_TOKENS = {"cpu": 2048, "cuda": 4096}
"""Tokens of a micro-batch, padding included: enough to keep a machine busy, and what bounds the memory of activations."""


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


@dataclass(frozen=True)
class Row:
    """One row of a batch without the columns that nothing in the loss depends on: T of them are left, in their order.

    ``embeddings`` (T, d), ``positions`` (T,), ``attended`` (T,) bool; ``predicts`` (T,) bool marks the N columns whose logits the loss
    takes, with ``weights`` (N,). ``response_ids`` (R,) and ``counted`` (R,) bool are the row's response and which N of it count.
    """

    embeddings: Tensor
    positions: Tensor
    attended: Tensor
    predicts: Tensor
    weights: Tensor
    response_ids: Tensor
    counted: Tensor

    def behind(self, columns: int) -> "Row":
        """Return the row without its first ``columns``, none of which predicts anything."""
        return replace(
            self,
            embeddings=self.embeddings[columns:],
            positions=self.positions[columns:],
            attended=self.attended[columns:],
            predicts=self.predicts[columns:],
        )


def rows_of(lm: LanguageModel, batch: Batch, counted: Tensor, weights: Tensor) -> list[Row]:
    """Take a batch apart, leaving out the columns that nothing attends to and that predict nothing counted.

    Such columns are padding, and hidden tokens inside the text; the rest keep their positions, so nothing else changes.

    Args:
        lm: the model; one that does not attend everywhere keeps all columns, since its windows count them.
        batch: the padded rows.
        counted: (B, R) bool, which response positions count.
        weights: (B, R), their weights.
    """
    attended = batch.attention.bool()
    predicts = torch.zeros_like(attended)
    predicts[:, -batch.response_width - 1 : -1] = counted
    needed = attended | predicts if lm.attends_everywhere else torch.ones_like(attended)
    return [
        Row(
            batch.embeddings[i][keep],
            batch.positions[i][keep],
            attended[i][keep],
            predicts[i][keep],
            weights[i][counted[i]],
            batch.response_ids[i],
            counted[i],
        )
        for i, keep in enumerate(needed)
    ]


@contextmanager
def logits_at(lm: LanguageModel, chosen: Tensor) -> Iterator[None]:
    """Let the model compute logits at the ``chosen`` (B, T) places alone: they come out as (1, N, vocabulary)."""

    def select(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][chosen][None], *inputs[1:])

    hook = lm.model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def entropy_loss(lm: LanguageModel, rows: Sequence[Row], options: Optimization, leading: LeadingColumns) -> Tensor:
    """Return the weighted sum of token entropies (scalar, nats) of a micro-batch, differentiable in its embeddings.

    Rows are padded on the right, where causal attention never looks: without hidden tokens inside the text, and without ``leading``
    columns that the rows stand behind, no mask is needed.
    """
    padded = partial(pad_sequence, batch_first=True)
    attention = padded([row.attended for row in rows], padding_value=True).long()
    cache = None
    if leading.layers:
        cache = leading.cache(lm)
        attention = pad(attention, (cache.get_seq_length(), 0), value=1)
    with logits_at(lm, padded([row.predicts for row in rows])):
        logits = lm.model(
            inputs_embeds=padded([row.embeddings for row in rows]),
            attention_mask=attention,
            position_ids=padded([row.positions for row in rows]),
            past_key_values=cache,
            use_cache=cache is not None,
        ).logits[0]
    if options.entropy == "raw":
        values = raw_entropy(logits)
    else:
        sampling = resolve(options.rollout, lm.generation_config)
        seen = None
        if sampling.repetition_penalty != 1:
            seen = torch.cat([seen_before(row.response_ids[None], logits.shape[-1])[0, row.counted] for row in rows])
        values = sampled_entropy(logits, sampling, seen)
    return (values * torch.cat([row.weights for row in rows])).sum()


def entropy_backward(
    lm: LanguageModel,
    prefix: Tensor,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    options: Optimization,
    share: Share = WHOLE,
) -> float:
    """Return the loss of fixed responses, after adding its gradient to whatever leaves it depends on, by micro-batches.

    With a ``prefix`` (L, d) for all rows, tokens are averaged over the batch; with shards, within each shard, laid out by itself, as on
    the released run's processes. With a prefix per row (B, L, d), each row is averaged by itself and the gradient is that of the sum
    over rows, so that none depends on its neighbours; the loss returned is their mean. Micro-batches are rows of like length from the
    whole batch; which rows share one changes nothing. Of the rows, those of a ``share`` are computed, with the weights that they have
    in the whole: loss and gradient are the sums of those of all shares.
    """
    size = options.shard_size or options.micro_batch_size or len(prompts)
    batches = _assembled(lm, prefix, prompts, responses, options, size)
    masks = [loss_mask(lm, b.response_ids, b.response_lengths, options) for b in batches]
    weights = _weights(masks, options, per_row=prefix.dim() == 3)
    parts = zip(batches, masks, weights, strict=True)
    whole = [row for batch, mask, weight in parts for row in rows_of(lm, batch, mask, weight)]
    whole = share.of(sorted(whole, key=lambda row: -len(row.positions)))
    # Micro-batches stop at the embeddings; from there the gradient goes back to prefix and table once.
    rows = [replace(row, embeddings=leaf_of(row.embeddings)) for row in whole]
    embeddings = [row.embeddings for row in rows]
    leading = LeadingColumns(())
    if columns := _shared(lm, rows, per_row=prefix.dim() == 3):
        leading = LeadingColumns.compute(lm, rows[0].embeddings[:columns], rows[0].positions[:columns])
        rows = [row.behind(columns) for row in rows]
    gathered = leading.leaves()
    loss = 0.0
    for group in group_by_length([len(row.positions) for row in rows], size, MICRO_BATCH_TOKENS[lm.device.type]):
        chosen = [rows[i] for i in group]
        with checkpointed(lm, options.activation_checkpointing, len(chosen) * len(chosen[0].positions)):
            part = entropy_loss(lm, chosen, options, gathered)
        torch.autograd.backward(part)
        loss += float(part.detach())
    pass_on(gathered.tensors(), leading.tensors())
    pass_on(embeddings, [row.embeddings for row in whole])
    return loss / len(prompts) if prefix.dim() == 3 else loss


def _shared(lm: LanguageModel, rows: Sequence[Row], *, per_row: bool) -> int:
    """Return how many columns the rows share; none where the embeddings of each have a gradient of their own."""
    own = per_row or lm.token_embeddings.requires_grad
    if own or not rows or not shareable(lm):
        return 0
    free = [row.attended & ~row.predicts for row in rows]
    most = min(int(columns.long().cumprod(0).sum()) for columns in free)
    return shared_columns(lm, [(row.embeddings, row.positions) for row in rows], most)


def _assembled(
    lm: LanguageModel,
    prefix: Tensor,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    options: Optimization,
    size: int,
) -> list[Batch]:
    """Lay out ``size`` rows at a time: in the released layout, positions depend on the longest prompt among them."""
    layout = options.layout
    return [
        assemble(
            lm,
            prefix[s : s + size] if prefix.dim() == 3 else prefix,
            [p.token_ids for p in prompts[s : s + size]],
            list(responses[s : s + size]),
            layout.order,
            layout.loss_positions,
            layout.loss_attention,
        )
        for s in range(0, len(prompts), size)
    ]


def _weights(masks: Sequence[Tensor], options: Optimization, *, per_row: bool) -> list[Tensor]:
    """Return the weights (B, R) of each batch's tokens: by rows, by shards, or one mean over all."""
    if per_row:
        return [mask / mask.sum(1, keepdim=True).clamp(min=1) for mask in masks]
    if options.shard_size:
        return [token_weights(mask, options) / len(masks) for mask in masks]
    total = sum(int(mask.sum()) for mask in masks)
    return [mask.float() / max(total, 1) for mask in masks]


def entropy_gradient(
    lm: LanguageModel,
    vectors: Tensor,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    options: Optimization,
    share: Share = WHOLE,
) -> tuple[float, Tensor]:
    """Return the loss of :func:`entropy_backward` and its gradient in a prefix: (L, d), or (B, L, d) for one per row."""
    leaf = vectors.detach().clone().requires_grad_(True)
    loss = entropy_backward(lm, leaf, prompts, responses, options, share)
    return loss, torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
