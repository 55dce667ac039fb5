"""Untrained vectors that a program could have started from: each a seed and an order in which random numbers are drawn."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float32]

Draw = Callable[[int, int], Tensor]
"""From (L, d) to the vectors (L, d), drawn from torch's global generator on the CPU, which was seeded just before."""


def _embedding(length: int, width: int) -> Tensor:
    return torch.nn.Embedding(length, width).weight.detach()


def _later(draws_before: int) -> Draw:
    def draw(length: int, width: int) -> Tensor:
        for _ in range(draws_before):
            _embedding(length, width)
        return _embedding(length, width)

    return draw


def _after_loaders(loaders: int) -> Draw:
    """Return the draw after data loaders or samplers took a 64-bit seed each, as PyTorch's do when they are first iterated."""

    def draw(length: int, width: int) -> Tensor:
        for _ in range(loaders):
            torch.empty((), dtype=torch.int64).random_()
        return _embedding(length, width)

    return draw


TORCH_ORDERS: Mapping[str, Draw] = {
    "nn.Embedding(L, d), first draw": _embedding,
    "torch.randn(L, d), first draw": lambda length, width: torch.randn(length, width),
    "nn.Embedding(L, d), second draw": _later(1),
    "nn.Embedding(L, d), third draw": _later(2),
    "nn.Embedding(L, d) after one data loader took its seed": _after_loaders(1),
    "nn.Embedding(L, d) after two data loaders took their seeds": _after_loaders(2),
    "nn.Embedding(d, L), transposed": lambda length, width: _embedding(width, length).T.contiguous(),
    "torch.randn(L, d) in bfloat16": lambda length, width: torch.randn(length, width, dtype=torch.bfloat16).float(),
}

NUMPY_ORDERS: Mapping[str, Callable[[int, int, int], npt.NDArray[np.float64]]] = {
    "numpy.random.RandomState(seed).standard_normal((L, d))": lambda seed, length, width: np.random.RandomState(
        seed
    ).standard_normal((length, width)),
    "numpy.random.default_rng(seed).standard_normal((L, d))": lambda seed, length, width: np.random.default_rng(
        seed
    ).standard_normal((length, width)),
}

ORDERS = (*TORCH_ORDERS, *NUMPY_ORDERS)
"""Every order, by name. Scale and mean need no orders of their own: correlation does not depend on them."""


def initial_vectors(order: str, seed: int, length: int, width: int) -> Array:
    """Return the vectors (L, d), fp32, that ``order`` draws after seeding with ``seed``; the global generator is left as it was."""
    if order in NUMPY_ORDERS:
        return NUMPY_ORDERS[order](seed, length, width).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn: Array = TORCH_ORDERS[order](length, width).numpy()
        return drawn
