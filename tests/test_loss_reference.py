"""The paper recipe's loss and gradient against a plain re-implementation of the released operations, on fixed responses."""

import pytest
import torch
from tiny_models import TEXT_END, TURN_END, WIDTH, recipe, some_prompts, tiny_lm
from torch import Tensor

from ttsv.loss import entropy_gradient
from ttsv.models import LanguageModel
from ttsv.records import Prompt


def responses_for(count: int) -> list[list[int]]:
    """Fixed responses of different lengths; some end with the end of text, some were cut, one is empty but for its end."""
    generator = torch.Generator().manual_seed(5)
    rows = [torch.randint(0, 256, (1 + n % 6,), generator=generator).tolist() for n in range(count)]
    return [row + ([TEXT_END] if n % 3 == 0 else [TURN_END, 65] if n % 3 == 1 else []) for n, row in enumerate(rows)]


def released_shard_loss(
    lm: LanguageModel, vectors: Tensor, prompts: list[Prompt], responses: list[list[int]]
) -> Tensor:
    """One process's loss as the release computes it, in plain operations.

    [V, pad, prompt, response]; the mask is `ids != pad`; no position ids; entropy of the fp32 softmax of the logits that predict the
    response; the loss mask is `ids != (pad or eos)` of the model's config; sum over sum.
    """
    pad = lm.tokenizer.pad_token_id
    width, tail = max(len(p.token_ids) for p in prompts), max(len(r) for r in responses)
    ids = torch.tensor(
        [
            [pad] * (width - len(p.token_ids)) + list(p.token_ids) + r + [pad] * (tail - len(r))
            for p, r in zip(prompts, responses, strict=True)
        ]
    )
    embedded = lm.model.get_input_embeddings()(ids)
    prefix = vectors.to(embedded.dtype).unsqueeze(0).expand(len(ids), -1, -1)
    attention = torch.cat([torch.ones(len(ids), len(vectors), dtype=torch.long), (ids != pad).long()], dim=1)
    output = lm.model(inputs_embeds=torch.cat([prefix, embedded], dim=1), attention_mask=attention)
    logits = output.logits[:, len(vectors) + width - 1 : -1].float()
    entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    config = lm.model.config
    mask = ids[:, width:] != (config.pad_token_id or config.eos_token_id)
    return (entropy * mask).sum() / mask.sum()


def released_loss(
    lm: LanguageModel, vectors: Tensor, prompts: list[Prompt], responses: list[list[int]]
) -> tuple[float, Tensor]:
    """The mean over shards of 8 rows, and its gradient: what data-parallel averaging gives."""
    leaf = vectors.clone().requires_grad_(True)
    shards = [
        released_shard_loss(lm, leaf, prompts[s : s + 8], responses[s : s + 8]) for s in range(0, len(prompts), 8)
    ]
    loss = torch.stack(shards).mean()
    loss.backward()
    assert leaf.grad is not None
    return float(loss.detach()), leaf.grad


SPECIAL_TOKENS = {
    "pad is eos, as in Qwen2.5-Math": {},
    "pad is not eos, as in Qwen3": {"pad_token_id": None, "eos_token_id": TURN_END},
    "config names a pad that is not eos": {"pad_token_id": TURN_END, "eos_token_id": TEXT_END},
    "pad is inside the prompt, as in SmolLM2": {
        "pad_token_id": TURN_END,
        "eos_token_id": TURN_END,
        "tokenizer": {"pad_token": "<|im_end|>", "eos_token": "<|im_end|>"},
    },
}


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize("tokens", SPECIAL_TOKENS)
@pytest.mark.parametrize("rows", [16, 8, 1])
def test_loss_and_gradient_of_the_paper_recipe_are_the_releases(architecture: str, tokens: str, rows: int) -> None:
    lm = tiny_lm(architecture, torch.float64, **SPECIAL_TOKENS[tokens])
    vectors = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(6))
    prompts, responses = some_prompts(rows), responses_for(rows)
    loss, gradient = entropy_gradient(lm, vectors, prompts, responses, recipe("paper"))
    expected_loss, expected_gradient = released_loss(lm, vectors, prompts, responses)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)
    assert float(gradient.norm()) > 1e-3


def test_the_reference_tells_the_recipes_apart() -> None:
    """The comparison above would fail for any single option of ``corrected``."""
    lm = tiny_lm("qwen2", torch.float64)
    vectors = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(6))
    prompts, responses = some_prompts(16), responses_for(16)
    expected, _ = released_loss(lm, vectors, prompts, responses)
    corrected = recipe("corrected")
    for changed in (
        {"layout": corrected.layout},
        {"loss_mask": corrected.loss_mask},
        {"entropy": corrected.entropy},
        {"shard_size": None},
    ):
        loss, _ = entropy_gradient(lm, vectors, prompts, responses, recipe("paper", **changed))
        assert loss != pytest.approx(expected, rel=1e-4), changed


def test_in_bf16_the_vector_is_cast_at_the_input_and_the_gradient_comes_back_in_fp32() -> None:
    lm = tiny_lm("qwen2", torch.bfloat16)
    vectors = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(6))
    prompts, responses = some_prompts(8), responses_for(8)
    loss, gradient = entropy_gradient(lm, vectors, prompts, responses, recipe("paper"))
    expected_loss, expected_gradient = released_loss(lm, vectors, prompts, responses)
    assert gradient.dtype == torch.float32
    # Kernels may round a matrix product of another shape differently: some 2**-8 per logit, less in the mean of all positions.
    assert loss == pytest.approx(expected_loss, rel=5e-4)
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), expected_gradient.flatten(), dim=0)
    assert float(cosine) > 0.999
    below_bf16 = vectors * (1 + 1e-5)
    assert entropy_gradient(lm, below_bf16, prompts, responses, recipe("paper"))[0] == loss
