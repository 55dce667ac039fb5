"""Keys and values while decoding: filled without computing padding, extended without copying, read without repeating heads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ttsv.models import LanguageModel

ROOM = 256
"""Columns by which a full buffer grows; buffers hold a multiple of it."""

GROUPED = "ttsv_grouped_sdpa"


class BufferedLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """One layer's keys and values, (B, heads, T, d_head), as views of larger buffers: a step writes a column and copies nothing.

    With a ``column`` (1,) on the device the layer is static: a step writes there and all columns of the buffers are read, so that
    nothing about a step's shapes or addresses changes; which columns hold anything is then for the mask to say.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows, self.width = rows, width
        self.buffers: list[Tensor] = []
        self.column: Tensor | None = None

    def place(self, rows: Tensor, columns: Tensor, keys: Tensor, values: Tensor) -> None:
        """Fill some rows' ``columns`` (n,), or (rows, n) of each its own, with keys and values (rows or 1, heads, n, d_head).

        What is never filled stays zero and must be masked.
        """
        if not self.buffers:
            for new in (keys, values):
                columns_held = (self.width // ROOM + 1) * ROOM
                self.buffers.append(new.new_zeros(self.rows, new.shape[1], columns_held, new.shape[3]))
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        for buffer, new in zip(self.buffers, (keys, values), strict=True):
            buffer[rows[:, None], :, columns] = new.transpose(1, 2)
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append columns and return all, as the base class does; see the class where it is static."""
        if self.column is not None:
            for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
                buffer.index_copy_(2, self.column, new)
            return self.buffers[0], self.buffers[1]
        start, self.width = self.width, self.width + key_states.shape[-2]
        if self.width > self.buffers[0].shape[-2]:
            self.grow()
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start : self.width] = new
        self._show()
        return self.keys, self.values

    def grow(self) -> None:
        """Make the buffers ``ROOM`` columns larger."""
        self.buffers = [pad(buffer, (0, 0, 0, ROOM)) for buffer in self.buffers]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self.buffers = [buffer[indices] for buffer in self.buffers]
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.width] for buffer in self.buffers)


def buffered_cache(lm: LanguageModel, rows: int, width: int) -> DynamicCache:
    """Return an empty cache for ``rows`` rows of ``width`` columns, to be filled by ``BufferedLayer.place``."""
    cache = DynamicCache(config=lm.model.config)
    cache.layers = [BufferedLayer(rows, width) for _ in cache.layers]
    return cache


@contextmanager
def grouped_attention(lm: LanguageModel) -> Iterator[None]:
    """Let single queries of grouped-query attention read each key once, for as long as the context lasts; changes sdpa alone.

    Heads that share keys become the queries of one head, where the library repeats keys and values for each of them (Ainslie et al.
    2023 name the scheme). The numbers are the same up to floating-point order.
    """
    config = lm.model.config.get_text_config()
    chosen = config._attn_implementation
    if chosen == "sdpa":
        config._attn_implementation = GROUPED
    try:
        yield
    finally:
        config._attn_implementation = chosen


def _grouped(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    rows, heads, queries, width = query.shape
    plain = queries != 1 or heads == key.shape[1] or rest.get("position_bias") is not None
    if plain or (attention_mask is not None and attention_mask.shape[1] != 1):
        attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
        return attended
    shared = query.view(rows, key.shape[1], -1, width)
    output = scaled_dot_product_attention(shared, key, value, attn_mask=attention_mask, scale=rest.get("scaling"))
    return output.reshape(rows, 1, heads, -1), None


ALL_ATTENTION_FUNCTIONS.register(GROUPED, _grouped)
ALL_MASK_ATTENTION_FUNCTIONS.register(GROUPED, sdpa_mask)
