"""How far an adaptation moves the hidden states, against the plain computation."""

import pytest
import torch
from tiny_models import WIDTH, some_prompts, tiny_lm

from ttsv.activations import drift, hidden_states, measure
from ttsv.adaptations import ChangedWeights, EmbeddingPrefix
from ttsv.soft_prompt import SoftPrompt

PROMPTS = some_prompts(5)
PREFIX = EmbeddingPrefix(SoftPrompt(torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(1))))


def test_hidden_states_are_those_of_the_row_alone() -> None:
    lm = tiny_lm("qwen2")
    for prompt, got in zip(PROMPTS, hidden_states(lm, PROMPTS, PREFIX), strict=True):
        tokens = lm.embed(torch.tensor([prompt.token_ids]))
        row = torch.cat([PREFIX.soft_prompt.vectors[None], tokens], dim=1)
        expected = lm.model(inputs_embeds=row, output_hidden_states=True).hidden_states
        torch.testing.assert_close(got, torch.cat(expected)[:, 3:], rtol=0, atol=1e-5)


def test_drift_of_known_vectors() -> None:
    plain = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    moved = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
    (row,) = drift(plain, moved).to_dict("records")
    assert row["relative_shift"] == pytest.approx(2**0.5 / 2)
    assert row["cosine"] == pytest.approx(0.5)
    assert row["last_relative_shift"] == pytest.approx(2**0.5)
    assert row["last_cosine"] == pytest.approx(0)


def test_nothing_moves_without_an_adaptation_and_the_embedding_layer_never_does_with_a_prefix() -> None:
    lm = tiny_lm("qwen2")
    moved, states = measure(lm, PROMPTS, None, batch_size=2)
    assert (moved["relative_shift"] == 0).all()
    assert list(states["problem_id"]) == [p.problem_id for p in PROMPTS]
    assert len(states["state"][0]) == WIDTH
    moved, _ = measure(lm, PROMPTS, PREFIX, batch_size=2)
    assert (moved[moved["layer"] == 0]["relative_shift"] == 0).all()
    assert (moved[moved["layer"] > 0]["relative_shift"] > 0).all()
    assert len(moved) == 5 * 3


def test_changed_weights_are_seen_too() -> None:
    lm = tiny_lm("qwen2")
    scaled = {name: 2 * p.detach() for name, p in lm.model.named_parameters() if "embed_tokens" in name}
    moved, _ = measure(lm, PROMPTS, ChangedWeights(scaled))
    assert moved[moved["layer"] == 0]["relative_shift"].to_numpy() == pytest.approx(1)
