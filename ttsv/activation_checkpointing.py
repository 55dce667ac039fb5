"""Activation checkpointing: layers keep their inputs alone and compute the rest again on the way back (Chen et al. 2016)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from ttsv.models import LanguageModel, dimensions_of
from ttsv.records import UserError
from ttsv.weights import Dimensions

ROOM = 0.5
"""The share of the card's free memory that kept activations may take; the rest is for logits and their gradients."""


def kept_bytes(sizes: Dimensions, element: int, *, checkpointed: bool) -> float:
    """Return roughly how many bytes a token's activations take, in elements of so many bytes: of all layers, or inputs and one layer."""
    of_layer = 8 * sizes.hidden_size + 3 * sizes.intermediate_size
    elements = sizes.num_hidden_layers * (sizes.hidden_size if checkpointed else of_layer) + checkpointed * of_layer
    return float(elements * element)


@contextmanager
def checkpointed(lm: LanguageModel, choice: Literal["auto", True, False], tokens: int) -> Iterator[None]:
    """Let forward passes in this context checkpoint each layer, if ``choice`` says so; values and gradients are the same bit for bit.

    ``auto`` does so on CUDA where the activations of so many ``tokens`` would take more than ``ROOM`` of the free memory.

    Raises:
        UserError: if ``choice`` is true and the architecture's layers are not known.
    """
    layers = [module for module in lm.model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if choice is True and not layers:
        raise UserError(
            f"optimization.activation_checkpointing=true: transformers marks no layers of {lm.name} for it; use auto or false"
        )
    if choice is False or (choice == "auto" and not _is_tight(lm, tokens)):
        layers = []
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _is_tight(lm: LanguageModel, tokens: int) -> bool:
    if lm.device.type != "cuda":
        return False
    free = torch.cuda.mem_get_info(lm.device)[0]
    free += torch.cuda.memory_reserved(lm.device) - torch.cuda.memory_allocated(lm.device)
    return (
        tokens * kept_bytes(dimensions_of(lm.model.config), lm.token_embeddings.element_size(), checkpointed=False)
        > ROOM * free
    )
