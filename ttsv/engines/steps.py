"""From one token of each row to the logits of the next: with shapes that grow, or with static ones, replayed as a CUDA graph."""

import logging

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from ttsv.models import LanguageModel

log = logging.getLogger(__name__)


def forward(lm: LanguageModel, cache: DynamicCache, attention: Tensor, positions: Tensor, **inputs: Tensor) -> Tensor:
    """Return the logits (B, vocabulary) behind the last column; ``attention`` is (B, T), or a mask (B, 1, queries, T) as it is."""
    output = lm.model(
        **inputs,
        attention_mask=attention,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1]
    return logits


class GrowingSteps:
    """Each step reads what the cache holds so far, one column more than the step before.

    Made of the cache of a prefill, its ``attention`` (B, T) and the position (B, 1) of its last column.
    """

    def __init__(self, lm: LanguageModel, cache: DynamicCache, attention: Tensor, positions: Tensor) -> None:
        self.lm, self.cache, self.attention, self.positions = lm, cache, attention, positions

    def __call__(self, tokens: Tensor) -> Tensor:
        """Append a token to each row, (B,), and return the next logits (B, vocabulary)."""
        self.attention = torch.cat([self.attention, self.attention.new_ones(len(tokens), 1)], dim=1)
        self.positions = self.positions + 1
        return forward(self.lm, self.cache, self.attention, self.positions, input_ids=tokens[:, None])

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows."""
        self.cache.batch_select_indices(rows)
        self.attention, self.positions = self.attention[rows], self.positions[rows]


class StaticSteps:
    """Each step reads the whole of the buffers behind the cache, under a mask: shapes and addresses stay until a buffer is full.

    On CUDA such a step is captured as a graph once and replayed, so that a step costs one launch, not one per kernel: at the sizes of
    decoding a processor launches kernels several times slower than the card runs them (NVIDIA, CUDA C++ Programming Guide, "CUDA
    Graphs"). The arguments are those of :class:`GrowingSteps`, the cache one of :func:`ttsv.engines.kv_cache.buffered_cache`.

    The logits returned are overwritten by the next call.
    """

    def __init__(self, lm: LanguageModel, cache: DynamicCache, attention: Tensor, positions: Tensor) -> None:
        self.lm, self.cache = lm, cache
        self.width = attention.shape[1]
        self.visible = pad(attention.bool(), (0, self._columns() - self.width))[:, None, None]
        self.positions = positions.clone()
        self.tokens = torch.zeros_like(positions)
        self.column = torch.tensor([self.width], device=lm.device)
        for layer in cache.layers:
            layer.column = self.column
        self.replays = lm.device.type == "cuda"
        self.captured: tuple[torch.cuda.CUDAGraph, Tensor] | None = None
        self.warm = False

    def __call__(self, tokens: Tensor) -> Tensor:
        """Append a token to each row, (B,), and return the next logits (B, vocabulary)."""
        if self.width == self._columns():
            self._grow()
        self.width += 1
        self.tokens.copy_(tokens[:, None])
        # The first step of a shape runs by itself, which is also the warming up that a capture asks for.
        if self.replays and self.warm and self.captured is None:
            self._capture()
        if self.captured is None:
            self.warm = True
            return self._step()
        graph, logits = self.captured
        graph.replay()
        return logits

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows."""
        self.cache.batch_select_indices(rows)
        self.visible, self.positions, self.tokens = self.visible[rows], self.positions[rows], self.tokens[rows]
        self._forget()

    def _step(self) -> Tensor:
        self.visible.index_fill_(3, self.column, True)
        self.positions += 1
        logits = forward(self.lm, self.cache, self.visible, self.positions, input_ids=self.tokens)
        self.column += 1
        return logits

    def _columns(self) -> int:
        return int(self.cache.layers[0].buffers[0].shape[2])

    def _grow(self) -> None:
        for layer in self.cache.layers:
            layer.grow()
        self.visible = pad(self.visible, (0, self._columns() - self.width))
        self._forget()

    def _forget(self) -> None:
        """Give up the graph, which knows shapes and addresses that have changed."""
        self.captured, self.warm = None, False

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                logits = self._step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # An architecture may ask the device something within a step, which a graph cannot record.
            log.warning(
                "%s cannot be replayed as a CUDA graph (%s); its steps are launched one by one", self.lm.name, error
            )
            self.replays = self.lm.replayable = False
        else:
            self.captured = graph, logits
