"""How fast the work could be: the roofline of :mod:`ttsv.cost` for a loaded model and given prompts, padding left out."""

from collections.abc import Sequence

from ttsv.cost import Shape, loss_seconds, prefill_seconds, step_seconds
from ttsv.machine import Machine
from ttsv.models import LanguageModel


def shape(lm: LanguageModel) -> Shape:
    """Return what decides the cost of a loaded model; reading keys and values is left out."""
    head = lm.model.get_output_embeddings().weight.numel()
    tables = {id(p): p.numel() for p in (lm.token_embeddings, lm.model.get_output_embeddings().weight)}
    parameters = sum(p.numel() for p in lm.model.parameters())
    layers, element = parameters - sum(tables.values()), lm.token_embeddings.element_size()
    depth = lm.model.config.get_text_config().num_hidden_layers
    return Shape(parameters, head, element, layers, depth, lm.token_embeddings.shape[0], cache=0.0, kept=0.0)


def attainable_rollout(lm: LanguageModel, prompts: Sequence[int], length: int, steps: int, machine: Machine) -> float:
    """Return the least seconds for ``steps`` tokens behind prompts of given lengths and ``length`` virtual tokens."""
    model, rows = shape(lm), len(prompts)
    prefill = prefill_seconds(model, machine, rows, sum(p + length for p in prompts))
    return prefill + (steps - 1) * step_seconds(model, machine, rows, 0)


def attainable_loss(lm: LanguageModel, prompts: Sequence[int], length: int, response: int, machine: Machine) -> float:
    """Return the least seconds for the loss of responses of one length and its gradient in the prefix, that of the inputs alone."""
    tokens = sum(p + length + response for p in prompts)
    return loss_seconds(shape(lm), machine, 2 * tokens, 2 * response * len(prompts))
