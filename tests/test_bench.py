"""The benchmark's two sides compute the same thing, and its fits and bounds are right."""

import pytest
import torch
from tiny_models import TEXT_END, TURN_END, WIDTH, evaluation, recipe, requests_of, some_prompts, tiny_lm

from ttsv.adaptations import EmbeddingPrefix
from ttsv.bench import reference
from ttsv.engines.hf import HFEngine
from ttsv.loss import entropy_gradient
from ttsv.soft_prompt import SoftPrompt

STOPS = ("</s>", "<|im_end|>", "<|endoftext|>")
INSIDE = {
    "pad_token_id": TURN_END,
    "eos_token_id": TURN_END,
    "tokenizer": {"pad_token": "<|im_end|>", "eos_token": "<|im_end|>"},
}


def vectors_of(length: int = 4) -> torch.Tensor:
    return torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize("tokens", [{}, INSIDE], ids=["pad outside the text", "pad inside the prompt"])
@pytest.mark.parametrize("rows", [3, 16])
def test_both_sides_have_the_same_loss_and_gradient(architecture: str, tokens: dict[str, object], rows: int) -> None:
    lm, prompts = tiny_lm(architecture, torch.float64, **tokens), some_prompts(rows)
    responses = [[65 + n % 7, 66, 67 + n % 3, *([TEXT_END] if n % 2 else [])] for n in range(rows)]
    expected, gradient = reference.loss(lm, prompts, responses, vectors_of())
    got, ours = entropy_gradient(lm, vectors_of(), prompts, responses, recipe("paper"))
    assert got == pytest.approx(expected, rel=1e-6)  # both take entropies in fp32
    torch.testing.assert_close(ours, gradient, rtol=1e-4, atol=1e-7)
    assert float(gradient.norm()) > 1e-3


@pytest.mark.parametrize("batch", [2, 5])
def test_both_sides_write_the_same_greedy_texts(batch: int) -> None:
    lm, prompts = tiny_lm("qwen2", torch.float64), some_prompts(5)
    rules = evaluation("paper").decoding
    rules = type(rules)(type(rules.sampling)(20), rules.stopping, rules.order, batch, rules.sort_by_length)
    found: dict[int, str] = {}
    prefix = EmbeddingPrefix(SoftPrompt(vectors_of()))
    for part in HFEngine().generate(lm, requests_of(prompts), prefix, rules):
        found |= {i: completion.text for i, completion in part.items()}
    expected = reference.evaluate(lm, prompts, vectors_of(), 20, batch, STOPS)
    assert [found[i] for i in range(5)] == expected
    assert len(set(expected)) == 5
