"""Activation checkpointing keeps less for the way back and changes no bit of loss or gradient."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import ARCHITECTURES, WIDTH, composed, recipe, some_prompts, tiny_lm
from torch import Tensor

from ttsv import neutral
from ttsv.cell import UNSEEN
from ttsv.config import component
from ttsv.loss import entropy_gradient
from ttsv.records import UserError
from ttsv.trainables import AllWeights, LoRA, SharedPrefix, Trainable

PROMPTS = some_prompts(5)
RESPONSES = [[65 + n % 7, 66, *range(70, 70 + n % 5)] for n in range(5)]
VECTORS = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(8))
TRAINABLES: dict[str, Trainable] = {
    "a vector": SharedPrefix(VECTORS),
    "all weights": AllWeights(),
    "an adapter": LoRA(2, 4, 0),
}


@pytest.mark.parametrize("name", ["paper", "corrected"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", TRAINABLES)
def test_loss_and_gradient_are_the_same_bit_for_bit(name: str, architecture: str, kind: str) -> None:
    lm, trainable = tiny_lm(architecture), TRAINABLES[kind]

    def gradient(choice: bool) -> tuple[float, dict[str, Tensor]]:
        options = recipe(name, activation_checkpointing=choice)
        return trainable.gradient(lm, trainable.initial(lm), PROMPTS, RESPONSES, options)

    (loss, kept), (again, recomputed) = gradient(False), gradient(True)
    assert loss == again
    assert set(kept) == set(recomputed)
    assert all(torch.equal(kept[key], recomputed[key]) for key in kept)
    assert max(float(value.abs().max()) for value in kept.values()) > 1e-3
    assert not any("forward" in vars(module) for module in lm.model.modules())


def test_less_is_kept_for_the_way_back() -> None:
    def elements(choice: Any) -> int:
        kept = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        lm = tiny_lm("qwen2", num_hidden_layers=6)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            entropy_gradient(lm, VECTORS, PROMPTS, RESPONSES, recipe("corrected", activation_checkpointing=choice))
        return kept

    assert elements("auto") == elements(False) > 2 * elements(True) > 0


def test_the_choice_is_no_part_of_a_key_nor_of_a_variant() -> None:
    options = recipe("corrected")
    assert replace(options, activation_checkpointing=True).key() == options.key()
    assert set(neutral.UNSEEN) <= set(composed("recipe=paper").recipe.optimization)
    assert "recipe.optimization.activation_checkpointing=true".startswith(UNSEEN)


def test_layers_that_are_not_known_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm()
    monkeypatch.setattr("ttsv.activation_checkpointing.GradientCheckpointingLayer", type("Other", (), {}))
    with pytest.raises(UserError, match=r"activation_checkpointing=true: transformers marks no layers of tiny"):
        entropy_gradient(lm, VECTORS, PROMPTS, RESPONSES, recipe("paper", activation_checkpointing=True))
    entropy_gradient(lm, VECTORS, PROMPTS, RESPONSES, recipe("paper"))


@pytest.mark.parametrize("word", ["auto", "true", "false"])
def test_the_option_is_read_as_written(word: str) -> None:
    config = composed("recipe=corrected", f"recipe.optimization.activation_checkpointing={word}")
    built = component(config.recipe.optimization, "recipe.optimization")
    assert built.activation_checkpointing == {"auto": "auto", "true": True, "false": False}[word]
