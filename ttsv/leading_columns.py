"""The columns that all rows of a batch begin with: computed once, for all rows.

A soft prompt and the beginning of a chat template are the same in every row, and under causal attention so are their keys and values
(the sharing of a prefix's cache, as in Juravsky et al. 2024, arXiv 2402.05099).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ttsv.models import LanguageModel


def shareable(lm: LanguageModel) -> bool:
    """Whether rows of this model that begin with the same columns may compute those once: where that saves time, and exactly.

    A column's keys must depend on nothing behind it; rotation by ``dynamic`` or ``longrope`` depends on how far a call reaches. On a card
    it would be one more pass of launches for little arithmetic, which has not been measured.
    """
    rotation = getattr(lm.model.config.get_text_config(), "rope_parameters", None) or {}
    fixed = rotation.get("rope_type") in ("default", "linear", "llama3", "yarn")
    return lm.device.type == "cpu" and fixed and lm.attends_everywhere and lm.takes_masks


def common_columns(rows: Sequence[tuple[Tensor, Tensor]], most: int) -> int:
    """Return with how many columns, at most ``most``, all rows begin that are alike in embedding (T, d) and position (T,)."""
    embeddings, positions = (torch.stack([row[part][:most] for row in rows]) for part in (0, 1))
    alike = (embeddings == embeddings[0]).all(-1) & (positions == positions[0])
    return int(alike.all(0).long().cumprod(0).sum())


def shared_columns(lm: LanguageModel, rows: Sequence[tuple[Tensor, Tensor]], most: int) -> int:
    """Return how many of the :func:`common_columns` are better computed once: all of them but the last of a row, or none.

    What is behind them then needs a mask, under which attention looks at each pair of columns instead of the causal half; that
    outweighs the columns saved where the rest of the rows is long. The model is a :func:`shareable` one.
    """
    most = min(most, *(len(positions) - 1 for _, positions in rows))
    if len(rows) == 1 or most < 1:
        return 0
    columns = common_columns(rows, most)
    # A layer multiplies a column by some 12 d^2 weights; a pair of columns costs attention some 4 d operations, of which half is new.
    saved = (len(rows) - 1) * columns * 24 * lm.hidden_size**2
    added = sum(2 * lm.hidden_size * (len(positions) - columns) ** 2 for _, positions in rows)
    return columns if saved > added else 0


class _Behind(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """One layer's keys and values of all rows, (B, heads, n + T, d_head), of which the first n are the same in all.

    Whatever is appended comes right behind those, however often: a layer that is run again, as for activation checkpointing, finds
    what it found the first time.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.leading = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return the first columns with these behind them."""
        pairs = zip(self.leading, (key_states, value_states), strict=True)
        self.keys, self.values = (torch.cat([first.expand(len(new), -1, -1, -1), new], dim=-2) for first, new in pairs)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return n."""
        return int(self.leading[0].shape[-2])


@dataclass(frozen=True)
class LeadingColumns:
    """Keys and values of n columns in each layer, (1, heads, n, d_head), with the graph that they came from; no layers: no columns."""

    layers: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def compute(cls, lm: LanguageModel, embeddings: Tensor, positions: Tensor) -> "LeadingColumns":
        """Run the layers on ``embeddings`` (n, d) at ``positions`` (n,)."""
        cache = DynamicCache(config=lm.model.config)
        lm.model.base_model(
            inputs_embeds=embeddings[None], position_ids=positions[None], past_key_values=cache, use_cache=True
        )
        return cls(tuple((layer.keys, layer.values) for layer in cache.layers))

    def cache(self, lm: LanguageModel) -> DynamicCache:
        """Return a cache for any number of rows that stand behind these columns, which may be none."""
        cache = DynamicCache(config=lm.model.config)
        if self.layers:
            cache.layers = [_Behind(*pair) for pair in self.layers]
        return cache

    def leaves(self) -> "LeadingColumns":
        """Return these values without their graph; see :func:`leaf_of`."""
        return LeadingColumns(tuple((leaf_of(keys), leaf_of(values)) for keys, values in self.layers))

    def tensors(self) -> list[Tensor]:
        """Return all keys and values."""
        return [tensor for pair in self.layers for tensor in pair]


def leaf_of(tensor: Tensor) -> Tensor:
    """Return its values without its graph, which gather a gradient where it has one."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def pass_on(leaves: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Send the gradients that leaves have gathered back through the graphs of the tensors they were made of."""
    reached = [(tensor, leaf.grad) for leaf, tensor in zip(leaves, tensors, strict=True) if leaf.grad is not None]
    if reached:
        torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])
