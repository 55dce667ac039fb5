"""Sampling: one truncated distribution, equal to that of transformers' own processors, drawn from by keyed streams."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from ttsv.records import UserError
from ttsv.sampling import Sampling, draw, penalise, permutation, truncate, uniforms

RULES = [
    Sampling(1, temperature=1.0),
    Sampling(1, temperature=0.5),
    Sampling(1, temperature=1.7, top_k=5),
    Sampling(1, temperature=1.0, top_p=0.6),
    Sampling(1, temperature=1.0, top_p=1e-6),
    Sampling(1, temperature=1.0, top_k=10_000),
    Sampling(1, temperature=0.5, top_p=0.95, top_k=20, repetition_penalty=1.15),
    Sampling(1, temperature=1.0, repetition_penalty=0.7),
]


def library_probabilities(logits: torch.Tensor, sampling: Sampling, generated: torch.Tensor) -> torch.Tensor:
    """What transformers.generate would sample from, in its own order of processors."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    return processors(generated, logits.clone()).softmax(-1)


def our_probabilities(logits: torch.Tensor, sampling: Sampling, seen: torch.Tensor | None) -> torch.Tensor:
    kept, ids = truncate(logits, sampling, seen)
    if ids is None:
        return kept.softmax(-1)
    return torch.zeros_like(logits).scatter(-1, ids, kept.softmax(-1))


def seen_mask(generated: torch.Tensor, vocabulary: int) -> torch.Tensor:
    return torch.zeros(len(generated), vocabulary, dtype=torch.bool).scatter(1, generated, True)


@pytest.mark.parametrize("sampling", RULES, ids=str)
def test_the_truncated_distribution_is_that_of_the_library(sampling: Sampling) -> None:
    torch.manual_seed(0)
    logits, generated = 3 * torch.randn(16, 40), torch.randint(0, 40, (16, 7))
    expected = library_probabilities(logits, sampling, generated)
    torch.testing.assert_close(our_probabilities(logits, sampling, seen_mask(generated, 40)), expected)


@pytest.mark.parametrize("sampling", [RULES[0], RULES[6]], ids=str)
def test_draws_follow_the_distribution(sampling: Sampling) -> None:
    torch.manual_seed(1)
    logits, generated = 1.5 * torch.randn(1, 30), torch.randint(0, 30, (1, 4))
    count = 20_000
    expected = library_probabilities(logits, sampling, generated)[0].double()
    uniform = torch.from_numpy(uniforms(count, "chi-square"))
    seen = seen_mask(generated, 30).expand(count, -1)
    drawn = torch.bincount(draw(logits.expand(count, -1), sampling, uniform, seen), minlength=30)
    assert int(drawn[expected == 0].sum()) == 0
    inside = expected > 0
    assert chisquare(drawn[inside].numpy(), (count * expected[inside] / expected[inside].sum()).numpy()).pvalue > 1e-3


def test_the_penalty_touches_seen_tokens_only() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0, -1.0]])
    seen = torch.tensor([[True, True, False, False]])
    assert penalise(logits, seen, 2.0).tolist() == [[1.0, -4.0, 1.0, -1.0]]


def test_greedy_takes_the_most_probable_token_after_the_penalty() -> None:
    logits = torch.tensor([[3.0, 2.9, 0.0]])
    seen = torch.tensor([[True, False, False]])
    nothing = torch.zeros(1, dtype=torch.float64)
    assert draw(logits, Sampling(1), nothing).item() == 0
    assert draw(logits, Sampling(1, repetition_penalty=1.15), nothing, seen).item() == 1


@pytest.mark.parametrize("sampling", RULES, ids=str)
@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_give_tokens_that_are_not_cut(sampling: Sampling, uniform: float) -> None:
    torch.manual_seed(2)
    logits = 20 * torch.randn(8, 40)
    logits[:, 3] = -torch.inf
    seen = torch.zeros(8, 40, dtype=torch.bool)
    tokens = draw(logits, sampling, torch.full((8,), uniform, dtype=torch.float64), seen)
    assert bool((our_probabilities(logits, sampling, seen).gather(1, tokens[:, None]) > 0).all())


@pytest.mark.parametrize("sampling", RULES, ids=str)
def test_the_same_uniform_gives_the_same_token_in_any_batch(sampling: Sampling) -> None:
    torch.manual_seed(3)
    logits, uniform = torch.randn(9, 50), torch.from_numpy(uniforms(9, "batch"))
    seen = torch.rand(9, 50) < 0.2
    together = draw(logits, sampling, uniform, seen)
    alone = torch.cat([draw(logits[i : i + 1], sampling, uniform[i : i + 1], seen[i : i + 1]) for i in range(9)])
    order = torch.tensor([8, 2, 0, 7, 1, 3, 6, 5, 4])
    assert together.tolist() == alone.tolist()
    assert together[order].tolist() == draw(logits[order], sampling, uniform[order], seen[order]).tolist()


def test_a_stream_depends_on_its_key_alone() -> None:
    first = uniforms(5, "rollout", 15, 3, "p1", 0)
    uniforms(100, "something else")
    np.random.seed(0)
    assert first.tolist() == uniforms(5, "rollout", 15, 3, "p1", 0).tolist()
    assert first.tolist() == uniforms(9, "rollout", 15, 3, "p1", 0)[:5].tolist()
    assert all(0 <= u < 1 for u in first)


@pytest.mark.parametrize(
    "other",
    [
        ("rollout", 16, 3, "p1", 0),
        ("rollout", 15, 4, "p1", 0),
        ("rollout", 15, 3, "p2", 0),
        ("rollout", 15, 3, "p1", 1),
        ("rollout", 153, "p1", 0),
    ],
)
def test_another_key_is_another_stream(other: tuple[int | str, ...]) -> None:
    assert uniforms(4, "rollout", 15, 3, "p1", 0).tolist() != uniforms(4, *other).tolist()


def test_a_permutation_holds_every_item_once_and_depends_on_its_key() -> None:
    assert sorted(permutation(50, "order", 1, 0)) == list(range(50))
    assert permutation(50, "order", 1, 0) == permutation(50, "order", 1, 0)
    assert permutation(50, "order", 1, 0) != permutation(50, "order", 1, 1)
    assert permutation(50, "order", 1, 0) != permutation(50, "order", 2, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -2),
        ("repetition_penalty", 0.0),
    ],
)
def test_a_field_out_of_range_is_named(field: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"sampling\.{field}={value}"):
        Sampling(**{"max_new_tokens": 1, field: value})  # type: ignore[arg-type]
