"""What all rows of a batch begin with is computed once: fewer columns run through the layers, and nothing else changes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import ARCHITECTURES, TEXT_END, WIDTH, decoding, prompts_of, recipe, requests_of, tiny_lm
from torch import Tensor

from ttsv import loss
from ttsv.adaptations import EmbeddingPrefix
from ttsv.engines import hf
from ttsv.engines.hf import HFEngine
from ttsv.leading_columns import common_columns, shareable, shared_columns
from ttsv.loss import entropy_gradient
from ttsv.models import LanguageModel
from ttsv.ranks import Share
from ttsv.soft_prompt import SoftPrompt
from ttsv.trainables import AllWeights, LoRA, PrefixPerProblem, SharedPrefix, Trainable

ASKED = "<|im_start|>user\nwhat is "
PROMPTS = prompts_of(*(f"{ASKED}{'1+' * (n % 3)}{n}?" for n in range(5)))
COMMON = len(prompts_of(ASKED)[0].token_ids)
RESPONSES = [[65 + n % 7, 66, *range(70, 70 + n % 5)] for n in range(5)]
VECTORS = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(8))
TRAINABLES: dict[str, Trainable] = {"a vector": SharedPrefix(VECTORS), "an adapter": LoRA(2, 4, 0)}


def columns_run(monkeypatch: pytest.MonkeyPatch, lm: LanguageModel, work: Callable[[], Any]) -> tuple[Any, list[int]]:
    """What ``work`` gives, and the rows x columns of each pass through the layers meanwhile."""
    sizes, layers = [], lm.model.base_model.forward

    def counted(*args: Any, **inputs: Any) -> Any:
        given = inputs["inputs_embeds"] if inputs.get("inputs_embeds") is not None else inputs["input_ids"]
        sizes.append(given.shape[0] * given.shape[1])
        return layers(*args, **inputs)

    with monkeypatch.context() as patch:
        patch.setattr(lm.model.base_model, "forward", counted)
        return work(), sizes


def apart(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> Any:
    """What ``work`` gives where each row computes all of its columns."""
    with monkeypatch.context() as patch:
        for module in (loss, hf):
            patch.setattr(module, "shared_columns", lambda *args: 0)
        return work()


@pytest.mark.parametrize("name", ["paper", "corrected"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", TRAINABLES)
def test_loss_and_gradient_are_those_of_rows_by_themselves(
    name: str, architecture: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, trainable = tiny_lm(architecture, torch.float64), TRAINABLES[kind]
    # An adapter begins with zeros, behind which half of it has no gradient.
    values = {key: value + 0.1 for key, value in trainable.initial(lm).items()}

    def work() -> tuple[float, dict[str, Tensor]]:
        options = recipe(name, rollout=recipe("corrected").rollout)
        return trainable.gradient(lm, values, PROMPTS, RESPONSES, options)

    (value, gradient), sizes = columns_run(monkeypatch, lm, work)
    (expected, by_row), whole = apart(monkeypatch, lambda: columns_run(monkeypatch, lm, work))
    # Under `paper` positions count padding, so that in front of prompts of different lengths the prefix alone is common.
    common = trainable.length + (COMMON if name == "corrected" else 0)
    assert sum(whole) - sum(sizes) >= (len(PROMPTS) - 1) * common * 0.9
    assert (sizes[0] == common) == (common > 0)
    assert value == pytest.approx(expected, rel=1e-6)  # entropies are taken in fp32
    for key, found in gradient.items():
        torch.testing.assert_close(found, by_row[key], rtol=1e-4, atol=1e-6)
    assert all(float(found.abs().max()) > 1e-6 for found in gradient.values())
    assert max(float(found.abs().max()) for found in gradient.values()) > 1e-3


@pytest.mark.parametrize("shares", [2, 7])  # of 5 rows, so that two of 7 are empty
def test_shares_of_the_rows_add_up_to_the_whole(shares: int) -> None:
    lm, options = tiny_lm("qwen2", torch.float64), recipe("corrected", micro_batch_size=2)
    whole, gradient = entropy_gradient(lm, VECTORS, PROMPTS, RESPONSES, options)
    parts = [entropy_gradient(lm, VECTORS, PROMPTS, RESPONSES, options, Share(i, shares)) for i in range(shares)]
    assert sum(loss for loss, _ in parts) == pytest.approx(whole, rel=1e-6)
    torch.testing.assert_close(sum(g for _, g in parts), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["paper", "corrected"])
def test_rows_that_are_alike_altogether_and_predict_nothing_have_a_loss_of_zero(name: str) -> None:
    lm, responses = tiny_lm("qwen2", torch.float64), [[TEXT_END] if name == "paper" else []] * 2
    loss, gradient = entropy_gradient(lm, VECTORS, [PROMPTS[0]] * 2, responses, recipe(name))
    assert loss == 0
    assert not gradient.any()


def test_weights_whose_embeddings_have_gradients_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are compared by their embeddings, and two tokens may have the same."""
    lm, trainable = tiny_lm("qwen2", torch.float64), AllWeights()

    def work() -> Any:
        return trainable.gradient(lm, trainable.initial(lm), PROMPTS, RESPONSES, recipe("corrected"))

    _, sizes = columns_run(monkeypatch, lm, work)
    assert sizes == apart(monkeypatch, lambda: columns_run(monkeypatch, lm, work))[1]


@pytest.mark.parametrize(
    ("rotation", "shares"),
    [
        ({"rope_type": "default"}, True),
        ({"rope_type": "linear", "factor": 2.0}, True),
        ({"rope_type": "dynamic", "factor": 2.0}, False),
    ],
)
def test_nothing_is_shared_where_rotation_depends_on_what_is_behind(rotation: dict[str, Any], shares: bool) -> None:
    lm = tiny_lm("llama", rope_parameters={"rope_theta": 10000.0, **rotation})
    assert shareable(lm) is shares


def test_vectors_of_one_row_each_share_nothing_even_where_they_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm("qwen2", torch.float64)
    trainable = PrefixPerProblem(VECTORS, tuple(p.problem_id for p in PROMPTS))

    def work() -> Any:
        return trainable.gradient(lm, trainable.initial(lm), PROMPTS, RESPONSES, recipe("corrected"))

    (_, gradient), sizes = columns_run(monkeypatch, lm, work)
    _, whole = apart(monkeypatch, lambda: columns_run(monkeypatch, lm, work))
    assert sizes == whole
    assert all(float(row.abs().max()) > 1e-4 for row in gradient["vectors"])


@pytest.mark.parametrize("order", ["padding_prefix_prompt", "prefix_padding_prompt"])
@pytest.mark.parametrize("static_cache", [False, True], ids=["growing", "static"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_completions_are_those_of_rows_by_themselves(
    order: Any, static_cache: bool, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, prefix = tiny_lm(architecture, torch.float64), EmbeddingPrefix(SoftPrompt(VECTORS))
    rules = decoding(8, order=order, temperature=1.0, batch_size=len(PROMPTS))

    def work() -> Any:
        (batch,) = HFEngine(static_cache=static_cache).generate(lm, requests_of(PROMPTS), prefix, rules)
        return [batch[i] for i in range(len(PROMPTS))]

    found, sizes = columns_run(monkeypatch, lm, work)
    expected, whole = apart(monkeypatch, lambda: columns_run(monkeypatch, lm, work))
    assert sizes[0] == len(VECTORS) + COMMON
    assert sum(whole) - sum(sizes) >= (len(PROMPTS) - 1) * sizes[0] * 0.9
    assert [c.token_ids for c in found] == [c.token_ids for c in expected]
    assert [c.mean_entropy for c in found] == pytest.approx([c.mean_entropy for c in expected], rel=1e-5)


def test_columns_are_common_up_to_the_first_difference_in_content_or_place() -> None:
    content, places = torch.randn(6, 4), torch.arange(6)
    other, moved = content.clone(), places.clone()
    other[4] += 1
    moved[3:] += 2
    assert common_columns([(content, places), (content[:5], places[:5])], 5) == 5
    assert common_columns([(content, places), (content, places)], 2) == 2
    assert common_columns([(content, places), (other, places)], 6) == 4
    assert common_columns([(content, places), (content, moved)], 6) == 3
    assert common_columns([(content, places), (content, places + 1)], 6) == 0


def test_nothing_is_shared_by_a_single_row_or_in_front_of_long_ones() -> None:
    lm = tiny_lm()

    def rows(count: int, width: int) -> list[tuple[Tensor, Tensor]]:
        beginning = torch.ones(20, WIDTH)
        return [(torch.cat([beginning, torch.randn(width, WIDTH)]), torch.arange(20 + width)) for _ in range(count)]

    assert shared_columns(lm, rows(4, 10), 25) == 20
    assert shared_columns(lm, rows(1, 10), 25) == 0
    assert shared_columns(lm, rows(4, 2000), 25) == 0
    assert shared_columns(lm, rows(4, 10), 0) == 0
    assert common_columns(rows(4, 2000), 25) == 20
