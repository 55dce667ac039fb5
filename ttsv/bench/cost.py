"""How fast the work could be: the arithmetic and the reading that a stage cannot avoid, at the machine's measured rates."""

from collections.abc import Sequence

from ttsv.models import LanguageModel
from ttsv.preflight import Machine


def sizes(lm: LanguageModel) -> tuple[float, float]:
    """Return the parameters of the layers, and those of the output head (vocabulary x d)."""
    head = lm.model.get_output_embeddings().weight.numel()
    tables = {id(p): p.numel() for p in (lm.token_embeddings, lm.model.get_output_embeddings().weight)}
    return sum(p.numel() for p in lm.model.parameters()) - sum(tables.values()), head


def attainable_rollout(lm: LanguageModel, prompts: Sequence[int], length: int, steps: int, machine: Machine) -> float:
    """Return the least seconds for ``steps`` tokens behind prompts of given lengths and ``length`` virtual tokens.

    Two operations a parameter and token; the prompts' logits are needed once; a decoding step multiplies, or reads every weight once,
    whichever takes longer. Attention and sampling are left out.
    """
    layers, head = sizes(lm)
    element = lm.token_embeddings.element_size()
    prefill = 2 * (layers * sum(p + length for p in prompts) + head * len(prompts)) / machine.flops
    step = max(2 * (layers + head) * len(prompts) / machine.flops, (layers + head) * element / machine.bandwidth)
    return prefill + (steps - 1) * step


def attainable_loss(lm: LanguageModel, prompts: Sequence[int], length: int, response: int, machine: Machine) -> float:
    """Return the least seconds for the loss of responses of one length and its gradient in the prefix.

    Forward, and backward to the inputs alone: four operations a parameter and token; logits at the response tokens only.
    """
    layers, head = sizes(lm)
    tokens = sum(p + length + response for p in prompts)
    return 4 * (layers * tokens + head * response * len(prompts)) / machine.flops
