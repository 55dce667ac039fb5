"""Linear layers for few rows on a processor, in the order of factors that its library is fast at."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from ttsv.models import LanguageModel


@contextmanager
def weights_first(lm: LanguageModel) -> Iterator[None]:
    """Let linear layers compute W x^T, where the library writes x W^T, for as long as the context lasts; changes fp32 on a processor alone.

    With the few rows of a decoding step MKL takes a quarter to two thirds of the time that way on a processor with AVX2, and as long as
    before with many rows (``results/benchmark.md``), without other weights in memory. The numbers are the same up to floating-point order.
    """
    layers: list[Any] = []
    if lm.device.type == "cpu" and lm.dtype == torch.float32:
        layers = [m for m in lm.model.modules() if type(m) is torch.nn.Linear and "forward" not in vars(m)]
    for layer in layers:
        layer.forward = partial(_linear, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _linear(layer: torch.nn.Linear, inputs: Tensor) -> Tensor:
    product = linear(layer.weight, inputs.reshape(-1, inputs.shape[-1])).T.contiguous()
    if layer.bias is not None:
        product += layer.bias
    return product.view(*inputs.shape[:-1], layer.out_features)
