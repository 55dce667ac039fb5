"""Entropies: equal to a plain fp64 softmax, in value and gradient, whatever the chunks."""

import math

import pytest
import torch
from torch import Tensor

from ttsv import objectives
from ttsv.objectives import entropy, raw_entropy, sampled_entropy
from ttsv.sampling import Sampling, truncate


def plain_entropy(logits: Tensor) -> Tensor:
    """The definition, in fp64 and without any care for speed."""
    p = logits.double().softmax(-1)
    return -torch.where(p > 0, p * p.clamp(min=1e-300).log(), torch.zeros_like(p)).sum(-1)


def value_and_gradient(function: object, logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_(True)
    values = function(leaf)  # type: ignore[operator]
    (values * weights.to(values.dtype)).sum().backward()
    assert leaf.grad is not None
    return values.detach(), leaf.grad


@pytest.fixture
def logits() -> Tensor:
    torch.manual_seed(0)
    return 4 * torch.randn(13, 37, dtype=torch.float64)


@pytest.fixture
def weights() -> Tensor:
    return torch.rand(13, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_entropy_and_its_gradient_are_those_of_the_definition(logits: Tensor, weights: Tensor) -> None:
    got, expected = (value_and_gradient(f, logits, weights) for f in (entropy, plain_entropy))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_entropy_and_its_gradient_are_finite_and_right_with_cut_tokens(logits: Tensor, weights: Tensor) -> None:
    mask = torch.rand(logits.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    mask[:, 0] = False
    for_ours = logits.masked_fill(mask, -torch.inf)
    rows = [row[~cut] for row, cut in zip(logits, mask, strict=True)]
    values, gradient = value_and_gradient(entropy, for_ours, weights)
    assert bool(gradient.isfinite().all())
    torch.testing.assert_close(values, torch.stack([plain_entropy(r) for r in rows]))
    assert bool((gradient[mask] == 0).all())
    for index, row in enumerate(rows):
        _, expected = value_and_gradient(plain_entropy, row[None], weights[index : index + 1])
        torch.testing.assert_close(gradient[index][~mask[index]], expected[0])


def test_entropy_of_known_distributions() -> None:
    assert entropy(torch.zeros(1, 8)).item() == pytest.approx(math.log(8))
    assert entropy(torch.tensor([[0.0, -torch.inf, -torch.inf]])).item() == 0
    assert entropy(torch.tensor([[1e4, 0.0]])).item() == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("rows", [1, 3, 13, 100])
def test_chunks_change_nothing(logits: Tensor, weights: Tensor, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    rules = Sampling(1, temperature=0.7, top_p=0.9, repetition_penalty=1.2)
    seen = torch.rand(logits.shape, generator=torch.Generator().manual_seed(3)) < 0.2
    functions = (raw_entropy, lambda x: sampled_entropy(x, rules, seen))
    whole = [value_and_gradient(f, logits.float(), weights) for f in functions]
    monkeypatch.setitem(objectives.CHUNK_ELEMENTS, "cpu", rows * logits.shape[-1])
    parts = [value_and_gradient(f, logits.float(), weights) for f in functions]
    torch.testing.assert_close(parts, whole, rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(raw_entropy(logits.float()), whole[0][0], rtol=0, atol=0)


def test_raw_entropy_is_taken_in_fp32_whatever_the_models_dtype(logits: Tensor) -> None:
    low = logits.to(torch.bfloat16)
    values = raw_entropy(low)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), plain_entropy(low), rtol=1e-5, atol=1e-5)


def test_no_rows_have_no_entropy_and_a_gradient_of_nothing() -> None:
    values, gradient = value_and_gradient(raw_entropy, torch.zeros(0, 5), torch.zeros(0))
    assert values.shape == (0,)
    assert gradient.shape == (0, 5)


@pytest.mark.parametrize(
    "rules",
    [
        Sampling(1, temperature=1.0),
        Sampling(1, temperature=0.5, top_p=0.9),
        Sampling(1, temperature=1.3, top_k=4),
        Sampling(1, temperature=0.5, top_p=0.95, top_k=20, repetition_penalty=1.15),
    ],
    ids=str,
)
def test_sampled_entropy_is_that_of_the_truncated_distribution(logits: Tensor, rules: Sampling) -> None:
    seen = torch.rand(logits.shape, generator=torch.Generator().manual_seed(4)) < 0.3
    kept, _ = truncate(logits.float(), rules, seen)
    p = kept.double().softmax(-1)
    expected = -(p * p.clamp(min=1e-300).log()).sum(-1)
    torch.testing.assert_close(sampled_entropy(logits.float(), rules, seen).double(), expected, rtol=1e-5, atol=1e-6)


def test_sampled_entropy_is_raw_entropy_where_nothing_is_cut(logits: Tensor, weights: Tensor) -> None:
    rules = Sampling(1, temperature=1.0)
    raw, sampled = (
        value_and_gradient(f, logits.float(), weights) for f in (raw_entropy, lambda x: sampled_entropy(x, rules, None))
    )
    torch.testing.assert_close(sampled, raw)


def test_greedy_decoding_has_no_entropy_and_no_gradient(logits: Tensor, weights: Tensor) -> None:
    values, gradient = value_and_gradient(lambda x: sampled_entropy(x, Sampling(1), None), logits.float(), weights)
    assert not values.any()
    assert not gradient.any()
