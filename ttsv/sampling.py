"""How the next token is chosen: one truncated distribution, from which rollouts are drawn and of which entropy is taken.

The order of the processors is that of ``transformers.generate``: repetition penalty, temperature, top-k, top-p. Each row draws from
a stream of its own, keyed by what it is for, so batching, resuming and parallel work change nothing that is sampled.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ttsv.records import UserError


@dataclass(frozen=True)
class Sampling:
    """Every field that decides which token comes next.

    ``temperature`` 0 is greedy. ``top_k`` 0 and ``top_p`` 1 cut nothing; ``repetition_penalty`` 1 changes nothing and otherwise
    applies to generated tokens only. ``top_k`` -1 means the model's generation config, or 50 where that is silent (the default
    of the library when TTSV was released).
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        bounds = {
            "max_new_tokens": self.max_new_tokens >= 1,
            "temperature": self.temperature >= 0,
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= -1,
            "repetition_penalty": self.repetition_penalty > 0,
        }
        for field, holds in bounds.items():
            if not holds:
                raise UserError(
                    f"sampling.{field}={getattr(self, field)} is out of range; expected max_new_tokens >= 1, temperature >= 0, "
                    f"0 < top_p <= 1, top_k >= -1 and repetition_penalty > 0"
                )

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Return ``logits`` (N, vocabulary) with tokens where ``seen`` (N, vocabulary, bool) made less likely (Keskar et al. 2019)."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def truncate(logits: Tensor, sampling: Sampling, seen: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the logits that sampling draws from, cut ones at -inf, and the token ids that they belong to.

    Args:
        logits: (N, vocabulary), fp32.
        sampling: not greedy, ``top_k`` resolved (>= 0).
        seen: (N, vocabulary) bool, the tokens generated so far; needed where the penalty is not 1.

    Returns:
        Logits (N, K) and ids (N, K), or (N, vocabulary) and None where nothing is cut. Differentiable in ``logits``.
    """
    if sampling.repetition_penalty != 1:
        assert seen is not None
        logits = penalise(logits, seen, sampling.repetition_penalty)
    logits = logits / sampling.temperature
    if sampling.top_k == 0 and sampling.top_p == 1:
        return logits, None
    k = min(sampling.top_k or logits.shape[-1], logits.shape[-1])
    kept, ids = logits.topk(k, dim=-1)
    if sampling.top_p < 1:
        probabilities = kept.detach().softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        kept = kept.masked_fill(before >= sampling.top_p, -torch.inf)
    return kept, ids


def draw(logits: Tensor, sampling: Sampling, uniform: Tensor, seen: Tensor | None = None) -> Tensor:
    """Return one token id per row, (N,).

    Args:
        logits: (N, vocabulary), fp32.
        sampling: the rule; ``top_k`` resolved.
        uniform: (N,) numbers in [0, 1), fp64; the draw is by inversion of the cumulative distribution.
        seen: as in :func:`truncate`.
    """
    if sampling.greedy:
        if sampling.repetition_penalty != 1:
            assert seen is not None
            logits = penalise(logits, seen, sampling.repetition_penalty)
        return logits.argmax(-1)
    kept, ids = truncate(logits, sampling, seen)
    cumulative = kept.softmax(-1).double().cumsum(-1)
    target = uniform.to(cumulative.device).unsqueeze(-1) * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True)
    if ids is None:
        return index.clamp(max=kept.shape[-1] - 1).squeeze(-1)
    last = (kept > -torch.inf).to(torch.int32).cumsum(-1).argmax(-1, keepdim=True)
    return ids.gather(-1, index.minimum(last)).squeeze(-1)


def uniforms(count: int, *key: int | str) -> np.ndarray:
    """Return ``count`` numbers in [0, 1), fp64, from the stream named by ``key``: the same key gives the same numbers anywhere."""
    name = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    philox = np.random.Philox(key=np.frombuffer(name, dtype=np.uint64))
    return np.random.Generator(philox).random(count)


def permutation(items: int, *key: int | str) -> list[int]:
    """Return a permutation of ``range(items)`` from the stream named by ``key``."""
    return [int(i) for i in np.argsort(uniforms(items, *key), kind="stable")]
