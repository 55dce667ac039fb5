"""What is minimised: the entropy of next-token distributions. Pure tensor functions, in nats and fp32."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ttsv.sampling import Sampling, truncate

CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**25}
"""Elements of a (tokens x vocabulary) fp32 block held at once: 8 MiB, which stays in the cache of a processor; on a card 128 MiB, so
that its kernels outlast their launches."""


def entropy(logits: Tensor) -> Tensor:
    """Return H = -sum_v p(v) log p(v) of each row's softmax: (N, K) logits, of which some may be -inf, to (N,)."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0)).sum(-1)


def raw_entropy(logits: Tensor) -> Tensor:
    """Return the entropy (N,) of the model's own distribution, at temperature 1 with nothing cut, from (N, vocabulary) of any dtype."""
    return _by_chunks(lambda block: entropy(block.float()), logits)


def sampled_entropy(logits: Tensor, sampling: Sampling, seen: Tensor | None) -> Tensor:
    """Return the entropy (N,) of the distribution that ``sampling`` draws from; it is zero for greedy decoding.

    Args:
        logits: (N, vocabulary), any dtype.
        sampling: with ``top_k`` resolved.
        seen: (N, vocabulary) bool, tokens generated earlier in the row; None where there is no penalty.
    """
    if sampling.greedy:
        return logits.float().sum(-1) * 0
    if seen is None:
        return _by_chunks(lambda block: entropy(truncate(block.float(), sampling, None)[0]), logits)
    return _by_chunks(lambda block, mask: entropy(truncate(block.float(), sampling, mask)[0]), logits, seen)


def _by_chunks(function: Callable[..., Tensor], logits: Tensor, *others: Tensor) -> Tensor:
    """Apply ``function`` to row blocks, computing each block again on the way back instead of keeping it."""
    rows = max(1, CHUNK_ELEMENTS[logits.device.type] // max(1, logits.shape[-1]))
    blocks = zip(*(torch.split(tensor, rows) for tensor in (logits, *others)), strict=True)
    if not (torch.is_grad_enabled() and logits.requires_grad):
        return torch.cat([function(*block) for block in blocks])
    return torch.cat([checkpoint(function, *block, use_reentrant=False) for block in blocks])
