"""Where prefix, padding, prompt and response stand, and what a row's logits depend on."""

import pytest
import torch
from tiny_models import ARCHITECTURES, TEXT_END, WIDTH, some_prompts, tiny_lm
from torch import Tensor

from ttsv.models import LanguageModel
from ttsv.placement import Batch, assemble

PROMPTS = [list(p.token_ids) for p in some_prompts(4)]
RESPONSES = [[65, 66, 67, 68], [70], [], [80, 81]]


def prefix_of(length: int, seed: int = 0) -> Tensor:
    return torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(seed))


def logits_of(lm: LanguageModel, batch: Batch) -> Tensor:
    with torch.no_grad():
        output = lm.model(
            inputs_embeds=batch.embeddings,
            attention_mask=batch.attention,
            position_ids=batch.positions,
            use_cache=False,
        )
    logits: Tensor = output.logits
    return logits


def plain_logits(lm: LanguageModel, prefix: Tensor, ids: list[int]) -> Tensor:
    """The plain model on the concatenated embeddings of one row, without padding, mask or positions."""
    embedded = torch.cat([prefix.to(lm.dtype), lm.embed(torch.tensor(ids))])
    with torch.no_grad():
        logits: Tensor = lm.model(inputs_embeds=embedded[None]).logits[0]
    return logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("order", ["padding_prefix_prompt", "prefix_padding_prompt"])
@pytest.mark.parametrize("length", [0, 3])
def test_prefix_and_prompt_equal_the_plain_model_on_concatenated_embeddings(
    architecture: str, order: str, length: int
) -> None:
    lm, prefix = tiny_lm(architecture, torch.float64), prefix_of(length)
    batch = assemble(lm, prefix, PROMPTS, RESPONSES, order)  # type: ignore[arg-type]
    logits = logits_of(lm, batch)
    start = batch.embeddings.shape[1] - batch.response_width
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        expected = plain_logits(lm, prefix, prompt + response)[length + len(prompt) - 1 :]
        torch.testing.assert_close(logits[row, start - 1 : start + len(response)], expected, rtol=1e-8, atol=1e-8)


def test_a_row_does_not_depend_on_its_batch_in_the_corrected_layout() -> None:
    lm, prefix = tiny_lm("qwen2", torch.float64), prefix_of(3)
    together = assemble(lm, prefix, PROMPTS, RESPONSES, "padding_prefix_prompt")
    logits = logits_of(lm, together)
    for row in range(len(PROMPTS)):
        alone = assemble(lm, prefix, [PROMPTS[row]], [RESPONSES[row]], "padding_prefix_prompt")
        real = together.attention[row].bool()
        torch.testing.assert_close(logits[row][real], logits_of(lm, alone)[0], rtol=1e-8, atol=1e-8)
        assert together.positions[row][real].tolist() == alone.positions[0].tolist()


def test_in_the_released_layout_the_loss_pass_depends_on_padding() -> None:
    lm, prefix = tiny_lm("qwen2", torch.float64), prefix_of(3)
    released = {"order": "prefix_padding_prompt", "positions": "columns", "attention": "pad_token"}
    long, short = max(PROMPTS, key=len), min(PROMPTS, key=len)
    together = assemble(lm, prefix, [short, long], [[65], [65]], **released)  # type: ignore[arg-type]
    alone = assemble(lm, prefix, [short], [[65]], **released)  # type: ignore[arg-type]
    difference = (logits_of(lm, together)[0, -1] - logits_of(lm, alone)[0, -1]).abs().max()
    assert float(difference) > 1e-3


def test_positions_by_columns_run_over_padding_and_by_mask_do_not() -> None:
    lm = tiny_lm()
    prompts, responses = [[65, 66, 67], [65]], [[70, 71], [72]]
    by_columns = assemble(lm, prefix_of(2), prompts, responses, "prefix_padding_prompt", "columns")
    assert by_columns.positions.tolist() == [list(range(7))] * 2
    by_mask = assemble(lm, prefix_of(2), prompts, responses, "prefix_padding_prompt", "mask")
    assert by_mask.positions.tolist() == [[0, 1, 2, 3, 4, 5, 6], [0, 1, 1, 1, 2, 3, 3]]


def test_orders_differ_in_where_the_padding_stands() -> None:
    lm, prefix = tiny_lm(), prefix_of(2)
    ids = torch.tensor([65, 66])
    pad = lm.embed(torch.tensor([lm.pad_token_id]))
    released = assemble(lm, prefix, [[65, 66], [65]], [[], []], "prefix_padding_prompt")
    corrected = assemble(lm, prefix, [[65, 66], [65]], [[], []], "padding_prefix_prompt")
    torch.testing.assert_close(released.embeddings[0], torch.cat([prefix, lm.embed(ids)]))
    torch.testing.assert_close(corrected.embeddings[0], torch.cat([prefix, lm.embed(ids)]))
    torch.testing.assert_close(released.embeddings[1], torch.cat([prefix, pad, lm.embed(ids[:1])]))
    torch.testing.assert_close(corrected.embeddings[1], torch.cat([pad, prefix, lm.embed(ids[:1])]))
    assert released.attention.tolist() == [[1, 1, 1, 1], [1, 1, 0, 1]]
    assert corrected.attention.tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]


def test_attention_by_pad_token_hides_it_inside_the_text_and_by_lengths_does_not() -> None:
    lm = tiny_lm()
    assert lm.pad_token_id == TEXT_END
    prompts, responses = [[65, TEXT_END, 66], [65]], [[70, TEXT_END], [TEXT_END]]
    by_token = assemble(lm, prefix_of(1), prompts, responses, "prefix_padding_prompt", "columns", "pad_token")
    assert by_token.attention.tolist() == [[1, 1, 0, 1, 1, 0], [1, 0, 0, 1, 0, 0]]
    by_length = assemble(lm, prefix_of(1), prompts, responses, "prefix_padding_prompt", "columns", "lengths")
    assert by_length.attention.tolist() == [[1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 1, 0]]


def test_a_prefix_per_row_may_be_given() -> None:
    lm = tiny_lm()
    prefixes = torch.stack([prefix_of(2, seed) for seed in range(4)])
    batch = assemble(lm, prefixes, PROMPTS, RESPONSES, "padding_prefix_prompt")
    for row in range(4):
        alone = assemble(lm, prefixes[row], [PROMPTS[row]], [RESPONSES[row]], "padding_prefix_prompt")
        torch.testing.assert_close(batch.embeddings[row][batch.attention[row].bool()], alone.embeddings[0])


def test_gradients_flow_into_the_prefix_and_nowhere_else() -> None:
    lm = tiny_lm()
    prefix = prefix_of(2).requires_grad_(True)
    batch = assemble(lm, prefix, PROMPTS, RESPONSES, "padding_prefix_prompt")
    batch.embeddings.sum().backward()
    assert prefix.grad is not None
    assert prefix.grad.tolist() == [[4.0] * WIDTH] * 2
    assert all(p.grad is None for p in lm.model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_prefix_is_cast_to_the_models_dtype_at_the_input(dtype: torch.dtype) -> None:
    lm = tiny_lm(dtype=dtype)
    batch = assemble(lm, prefix_of(2), PROMPTS, RESPONSES, "padding_prefix_prompt")
    assert batch.embeddings.dtype == dtype
