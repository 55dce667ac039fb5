"""Where prefix, padding, prompt and response stand in a batch, and which positions and attention they get."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ttsv.models import LanguageModel

Order = Literal["prefix_padding_prompt", "padding_prefix_prompt"]


@dataclass(frozen=True)
class Layout:
    """The three choices in which the released code and a batch-independent computation differ.

    ``order``: the released [V, pad, prompt, response], or [pad, V, prompt, response].
    ``loss_positions``: ``columns`` numbers the columns 0..n-1, pads included; ``mask`` counts attended tokens only, as decoding does.
    ``loss_attention``: ``pad_token`` hides every token whose id is the pad's, also inside the text; ``lengths`` hides padding only.
    """

    order: Order = "padding_prefix_prompt"
    loss_positions: Literal["mask", "columns"] = "mask"
    loss_attention: Literal["lengths", "pad_token"] = "lengths"


@dataclass(frozen=True)
class Batch:
    """A padded batch ready for the model.

    ``embeddings`` (B, T, d) in the model's dtype; ``attention`` (B, T) long; ``positions`` (B, T) long. The last ``response_width``
    columns are the right-padded responses, whose token ids are ``response_ids`` (B, response_width), padded with the pad id.
    """

    embeddings: Tensor
    attention: Tensor
    positions: Tensor
    response_ids: Tensor
    response_lengths: Tensor

    @property
    def response_width(self) -> int:
        """The number of response columns."""
        return self.response_ids.shape[1]


def assemble(
    lm: LanguageModel,
    prefix: Tensor,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    order: Order,
    positions: Literal["mask", "columns"] = "mask",
    attention: Literal["lengths", "pad_token"] = "lengths",
) -> Batch:
    """Lay out a batch of rows.

    Args:
        lm: the model whose embeddings and pad id are used.
        prefix: (L, d), or (B, L, d) for a prefix per row; L may be 0. Gradients flow into it.
        prompts: B lists of token ids.
        responses: B lists of token ids, empty while generating.
        order: see :class:`Layout`.
        positions: see ``Layout.loss_positions``.
        attention: see ``Layout.loss_attention``.
    """
    rows = len(prompts)
    left = _pad(prompts, lm.pad_token_id, lm.device, left=True)
    right = _pad(responses, lm.pad_token_id, lm.device, left=False)
    lengths = torch.tensor([len(p) for p in prompts], device=lm.device)
    response_lengths = torch.tensor([len(r) for r in responses], device=lm.device)
    if prefix.dim() == 2:
        prefix = prefix.expand(rows, -1, -1)
    vectors = prefix.to(device=lm.device, dtype=lm.dtype)
    if attention == "pad_token":
        left_mask, right_mask = left != lm.pad_token_id, right != lm.pad_token_id
    else:
        left_mask = torch.arange(left.shape[1], device=lm.device) >= left.shape[1] - lengths[:, None]
        right_mask = torch.arange(right.shape[1], device=lm.device) < response_lengths[:, None]
    prefix_mask = torch.ones(rows, vectors.shape[1], dtype=torch.bool, device=lm.device)
    embeddings = torch.cat([vectors, lm.embed(left), lm.embed(right)], dim=1)
    mask = torch.cat([prefix_mask, left_mask, right_mask], dim=1)
    if order == "padding_prefix_prompt":
        columns = _behind_padding(vectors.shape[1], lengths, left.shape[1], right.shape[1])
        embeddings = embeddings.gather(1, columns.unsqueeze(-1).expand(-1, -1, embeddings.shape[-1]))
        mask = mask.gather(1, columns)
    if positions == "columns":
        numbers = torch.arange(mask.shape[1], device=lm.device).expand(rows, -1)
    else:
        numbers = (mask.long().cumsum(-1) - 1).clamp(min=0)
    return Batch(embeddings, mask.long(), numbers, right, response_lengths)


MOST_PADDING = 0.1
"""The share of padding up to which rows of different length are computed together."""


def group_by_length(lengths: Sequence[int], most_rows: int, most_tokens: int) -> list[list[int]]:
    """Return the indices of ``lengths`` in groups of like length, longest first.

    A group holds at most ``most_rows`` rows and, padded to its longest, ``most_tokens`` tokens, of which at most ``MOST_PADDING`` are
    padding. A row that is longer than ``most_tokens`` is a group by itself.
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        joined = [*(groups[-1] if groups else []), row]
        padded = len(joined) * lengths[joined[0]]
        used = sum(lengths[i] for i in joined)
        if (
            len(joined) > 1
            and len(joined) <= most_rows
            and padded <= most_tokens
            and padded - used <= MOST_PADDING * padded
        ):
            groups[-1] = joined
        else:
            groups.append([row])
    return groups


def _pad(rows: Sequence[Sequence[int]], pad: int, device: torch.device, *, left: bool) -> Tensor:
    """Return (B, longest) token ids."""
    width = max(len(row) for row in rows)
    padded = [[pad] * (width - len(r)) + list(r) if left else list(r) + [pad] * (width - len(r)) for r in rows]
    return torch.tensor(padded, dtype=torch.long, device=device).view(len(rows), width)


def _behind_padding(prefix: int, lengths: Tensor, prompt_width: int, response_width: int) -> Tensor:
    """Return the columns (B, T) of [V, pad, prompt, response] in the order [pad, V, prompt, response]."""
    total = prefix + prompt_width + response_width
    target = torch.arange(total, device=lengths.device).expand(len(lengths), -1)
    padding = (prompt_width - lengths).unsqueeze(1)
    in_padding = target < padding
    in_prefix = (target >= padding) & (target < padding + prefix)
    return torch.where(in_padding, target + prefix, torch.where(in_prefix, target - padding, target))
