"""How vLLM is made to draw by :mod:`ttsv.sampling`: a logits processor that leaves one token of each row, the one drawn here.

vLLM's own sampler has other random streams, and its repetition penalty looks up the ids of the prompt, which a prompt given as embeddings
does not have. Runs inside vLLM's process, whose environment need not hold more than vLLM brings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, process_dict_updates

from ttsv.objectives import raw_entropy
from ttsv.sampling import Sampling, draw, uniforms


@dataclass
class Row:
    """A row that is being written: its rule, its random numbers (max_new_tokens,), and what it has written, which vLLM extends."""

    sampling: Sampling
    uniform: np.ndarray
    written: list[int]
    seen: Tensor | None = None
    counted: int = 0

    def seen_so_far(self, like: Tensor) -> Tensor:
        """Return which tokens were written, (vocabulary,) bool."""
        if self.seen is None:
            self.seen = torch.zeros_like(like, dtype=torch.bool)
        self.seen[self.written[self.counted :]] = True
        self.counted = len(self.written)
        return self.seen


def leave_drawn(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """Return logits (N, vocabulary) that are -inf but at the token drawn for each of the N rows, where its raw entropy stands (nats).

    Greedy sampling then takes that token, and what vLLM reports as its logit is the entropy. Rows of one call share a sampling rule.
    """
    sampling = rows[0].sampling
    # The prompt of a row may not be read to its end yet; what is drawn for it is thrown away, and drawn again at the same place.
    uniform = torch.tensor([row.uniform[len(row.written)] for row in rows], dtype=torch.float64)
    seen = None
    if sampling.repetition_penalty != 1:
        seen = torch.stack([row.seen_so_far(logits[i]) for i, row in enumerate(rows)])
    drawn = draw(logits, sampling, uniform, seen)[:, None]
    return torch.full_like(logits, -torch.inf).scatter(1, drawn, raw_entropy(logits)[:, None])


class DrawnTokens(LogitsProcessor):  # type: ignore[misc]  # vllm has no types here
    """vLLM's interface to :func:`leave_drawn`; a request's ``extra_args`` hold the fields of ``sampling`` and the ``stream``."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self.rows: dict[int, Row] = {}

    def is_argmax_invariant(self) -> bool:
        """Tell vLLM that greedy sampling needs this processor."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the rows that enter, leave or change places."""
        process_dict_updates(self.rows, batch_update, lambda params, prompt, written: _row(params, written))

    def apply(self, logits: Tensor) -> Tensor:
        """Return what :func:`leave_drawn` does with all rows."""
        return leave_drawn(logits, [self.rows[i] for i in range(len(logits))])


def _row(params: SamplingParams, written: list[int]) -> Row:
    extra: dict[str, Any] = params.extra_args
    sampling = Sampling(**extra["sampling"])
    cap = sampling.max_new_tokens
    return Row(sampling, np.zeros(cap) if sampling.greedy else uniforms(cap, *extra["stream"]), written)
