"""Every row of the recipes' table is a named option, and each option does what it says. The options of decoding an evaluation
and of the end of a response are shown at work in test_hf_engine.py, those of the grader in tests/scoring."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from tiny_models import (
    STOP,
    TEXT_END,
    TURN_END,
    WIDTH,
    component,
    composed,
    evaluation,
    prompts_of,
    recipe,
    some_prompts,
    tiny_lm,
    tiny_tokenizer,
    write,
)
from torch import Tensor
from torch.utils.data import BatchSampler
from transformers import GenerationConfig

from ttsv.adaptations import EmbeddingPrefix
from ttsv.engines.hf import HFEngine
from ttsv.evaluation import Evaluation
from ttsv.loss import entropy_gradient, loss_mask, seen_before, token_weights
from ttsv.models import LanguageModel
from ttsv.objectives import sampled_entropy
from ttsv.optimization import Optimization, learning_rate_factor, rows_of_update
from ttsv.optimize import learning_rate
from ttsv.placement import Layout
from ttsv.prompts import TextTemplate, render_prompts
from ttsv.records import Completion, Problem, Prompt, UserError
from ttsv.rollouts import rollouts
from ttsv.sampling import Sampling
from ttsv.soft_prompt import SoftPrompt, initialize, load_soft_prompt

PAPER = {
    "length": 20,
    "initialization": "standard_normal",
    "learning_rate": 1e-3,
    "learning_rate_unit": "absolute",
    "weight_decay": 1e-8,
    "adam_eps": 1e-5,
    "clip_norm": None,
    "schedule": "constant_within_epoch",
    "epochs": 20,
    "updates": None,
    "batch_size": 16,
    "shard_size": 8,
    "fill_last_batch": True,
    "rollout": Sampling(256, temperature=0.5, top_p=0.95, top_k=-1, repetition_penalty=1.15),
    "rollout_end": "eos",
    "entropy": "raw",
    "layout": Layout("prefix_padding_prompt", "columns", "pad_token"),
    "loss_mask": "not_pad_or_eos_token",
    "overlong_prompt": "truncate_right",
    "max_prompt_tokens": 2048,
    "reported": "last",
}
CORRECTED = {
    "initialization": "vocabulary",
    "learning_rate_unit": "initial_rms",
    "schedule": "linear",
    "epochs": None,
    "shard_size": None,
    "fill_last_batch": False,
    "rollout": Sampling(256, temperature=1.0, top_p=1.0, top_k=0, repetition_penalty=1.0),
    "rollout_end": "any_end_token",
    "entropy": "sampled",
    "layout": Layout("padding_prefix_prompt", "mask", "lengths"),
    "loss_mask": "through_end_token",
    "overlong_prompt": "error",
    "reported": "before_collapse",
}


@pytest.mark.parametrize(("name", "rows"), [("paper", PAPER), ("corrected", CORRECTED)])
def test_a_recipe_config_says_what_the_table_says(name: str, rows: dict[str, Any]) -> None:
    built = component(composed(f"recipe={name}", "scale=full").recipe.optimization, "recipe.optimization")
    assert {option: getattr(built, option) for option in rows} == rows


def test_the_papers_arithmetic_differs_between_optimising_and_evaluating_and_the_corrected_does_not() -> None:
    paper, corrected = (
        composed("recipe=paper", "scale=full").recipe.dtype,
        composed("recipe=corrected", "scale=full").recipe.dtype,
    )
    assert (paper.adapt, paper.evaluate) == ("bfloat16", "float16")
    assert corrected.adapt == corrected.evaluate


def test_evaluation_of_the_recipes() -> None:
    paper, corrected = evaluation("paper"), evaluation("corrected")
    assert paper.decoding.batch_size == 64
    assert paper.decoding.sampling.max_new_tokens == 3072
    assert paper.sampling_from == "generation_config"
    assert paper.decoding.stopping.batch_strings == ("</s>", "<|im_end|>", "<|endoftext|>")
    assert corrected.sampling_from == "decoding"
    assert corrected.decoding.stopping.batch_strings == ()


# initialisation


def test_standard_normal_is_bit_for_bit_a_fresh_embedding_of_the_seed() -> None:
    lm = tiny_lm()
    torch.manual_seed(15)
    expected = torch.nn.Embedding(20, WIDTH).weight.detach()
    assert torch.equal(initialize("standard_normal", 20, lm, 15), expected)
    assert not torch.equal(initialize("standard_normal", 20, lm, 16), expected)


@pytest.mark.parametrize(("model", "width"), [("1.5b", 1536), ("7b", 3584)])
def test_the_released_vectors_are_close_to_the_standard_normal_of_seed_15(
    shared: Path, model: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = load_soft_prompt(shared / "reference" / "ttsv_release" / f"qwen2.5-math-{model}_math500").vectors
    monkeypatch.setattr(LanguageModel, "hidden_size", width)
    start = initialize("standard_normal", 20, tiny_lm(), 15)
    assert released.shape == (20, width)
    assert float(torch.corrcoef(torch.stack([released.flatten(), start.flatten()]))[0, 1]) > 0.99


def test_initialising_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    initialize("standard_normal", 4, tiny_lm(), 15)
    torch.manual_seed(3)
    initialize("data_statistics", 4, tiny_lm(), 15, some_prompts(2))
    torch.manual_seed(3)
    assert torch.equal(torch.rand(4), expected)


def test_data_statistics_have_the_mean_and_spread_of_the_prompts_tokens() -> None:
    lm, prompts = tiny_lm(), some_prompts(5)
    rows = torch.cat([lm.embed(torch.tensor(p.token_ids)) for p in prompts])
    drawn = initialize("data_statistics", 20_000, lm, 0, prompts)
    torch.testing.assert_close(drawn.mean(0), rows.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.std(0), rows.std(0), atol=0.02, rtol=0)
    with pytest.raises(UserError, match="data_statistics needs prompts"):
        initialize("data_statistics", 3, lm, 0)


def test_vocabulary_rows_are_distinct_embeddings_of_known_tokens_chosen_by_the_seed() -> None:
    lm = tiny_lm(dtype=torch.bfloat16)
    drawn = initialize("vocabulary", 20, lm, 1)
    table = lm.token_embeddings.float()[: lm.tokenizer_size]
    chosen = [int((table == row).all(-1).nonzero()[0]) for row in drawn]
    assert len(set(chosen)) == 20
    assert drawn.dtype == torch.float32
    assert not torch.equal(drawn, initialize("vocabulary", 20, lm, 2))


def test_text_rows_are_the_embeddings_of_the_text_repeated() -> None:
    lm = tiny_lm()
    ids = lm.tokenizer("abc", add_special_tokens=False)["input_ids"]
    assert torch.equal(initialize("text", 5, lm, 0, text="abc"), lm.token_embeddings[[*ids, *ids[:2]]])
    with pytest.raises(UserError, match="initialization_text"):
        initialize("text", 5, lm, 0)


# learning rate and schedule


def test_the_learning_rate_is_absolute_or_a_share_of_the_initial_rows() -> None:
    initial = torch.full((3, 4), 0.02)
    paper = recipe("paper", learning_rate=1e-3)
    assert learning_rate({"vectors": initial}, paper, 500, 0) == pytest.approx(1e-3)
    in_rows = recipe("paper", learning_rate=1e-3, learning_rate_unit="initial_rms")
    assert learning_rate({"vectors": initial}, in_rows, 500, 0) == pytest.approx(2e-5)
    assert learning_rate({"vectors": -50 * initial}, in_rows, 500, 0) == pytest.approx(1e-3)


def test_the_released_schedule_is_constant_within_an_epoch() -> None:
    paper = recipe("paper")
    factors = [learning_rate_factor(paper, 500, u) for u in range(640)]
    assert factors == [pytest.approx(1 - 0.99 * (u // 32) / 20) for u in range(640)]
    assert factors[0] == factors[31] == 1
    assert factors[-1] == pytest.approx(1 - 0.99 * 19 / 20)


def test_the_linear_schedule_falls_with_every_update_and_stays_positive() -> None:
    corrected = recipe("corrected", updates=10)
    assert [learning_rate_factor(corrected, 500, u) for u in range(10)] == pytest.approx(
        [1 - u / 10 for u in range(10)]
    )
    assert [learning_rate_factor(corrected, 30, u) for u in range(10)] == pytest.approx([1 - u / 10 for u in range(10)])


# budget and batches


@pytest.mark.parametrize(("problems", "updates"), [(500, 640), (30, 40), (16, 20), (17, 40)])
def test_a_budget_in_epochs_grows_with_the_task(problems: int, updates: int) -> None:
    assert recipe("paper").total_updates(problems) == updates


@pytest.mark.parametrize("problems", [500, 30, 7])
def test_a_budget_in_updates_does_not(problems: int) -> None:
    assert recipe("corrected", updates=200).total_updates(problems) == 200


@pytest.mark.parametrize(("epochs", "updates"), [(None, None), (3, 3)])
def test_a_budget_is_given_in_one_way(epochs: int | None, updates: int | None) -> None:
    with pytest.raises(UserError, match="exactly one of"):
        recipe("paper", epochs=epochs, updates=updates)


@pytest.mark.parametrize("problems", [500, 30, 40, 16, 17, 25, 5])
def test_a_filled_up_epoch_holds_the_rows_that_accelerate_gives_two_processes(problems: int) -> None:
    options = recipe("paper")
    sampler = BatchSampler(_epoch_order(options, problems), batch_size=8, drop_last=False)
    shards = [list(BatchSamplerShard(sampler, 2, process)) for process in range(2)]
    expected = [first + second for first, second in zip(*shards, strict=True)]
    assert [rows_of_update(options, problems, u, 15) for u in range(len(expected))] == expected
    assert len(expected) == options.updates_per_epoch(problems)


def _epoch_order(options: Optimization, problems: int) -> list[int]:
    """The order of an epoch's problems: the rows of its updates without filling up."""
    plain = replace(options, fill_last_batch=False)
    return [row for u in range(plain.updates_per_epoch(problems)) for row in rows_of_update(plain, problems, u, 15)]


def test_without_filling_up_every_problem_comes_once_an_epoch() -> None:
    options = recipe("corrected")
    for problems in (500, 30, 16, 5):
        assert sorted(_epoch_order(options, problems)) == list(range(problems))


def test_each_epoch_has_an_order_of_its_own_decided_by_the_order_seed() -> None:
    options = recipe("corrected", batch_size=8)
    rows = [rows_of_update(options, 8, u, seed) for seed in (1, 2) for u in (0, 1)]
    assert len({tuple(r) for r in rows}) == 4
    assert rows[0] == rows_of_update(options, 8, 0, 1)


# averaging


def fixed_responses(count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 250, (1 + (3 * n) % 7,), generator=generator).tolist() for n in range(count)]


def gradient_of(
    options: Optimization, rows: slice | None = None, lm: LanguageModel | None = None
) -> tuple[float, Tensor]:
    vectors = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(8))
    prompts, responses = some_prompts(16), fixed_responses(16)
    chosen = rows or slice(None)
    return entropy_gradient(lm or tiny_lm("qwen2", torch.float64), vectors, prompts[chosen], responses[chosen], options)


def test_with_shards_the_gradient_is_the_mean_of_the_shards_gradients() -> None:
    options = recipe("paper")
    whole, parts = gradient_of(options), [gradient_of(options, slice(s, s + 8)) for s in (0, 8)]
    assert whole[0] == pytest.approx((parts[0][0] + parts[1][0]) / 2)
    torch.testing.assert_close(whole[1], (parts[0][1] + parts[1][1]) / 2)


def test_without_shards_the_gradient_is_one_token_mean_over_the_batch() -> None:
    options = recipe("corrected")
    rows = [gradient_of(options, slice(n, n + 1)) for n in range(16)]
    lengths = [len(r) for r in fixed_responses(16)]
    whole = gradient_of(options)
    assert whole[0] == pytest.approx(sum(n * r[0] for n, r in zip(lengths, rows, strict=True)) / sum(lengths), rel=1e-5)
    expected = sum((n * r[1] for n, r in zip(lengths, rows, strict=True)), torch.zeros(3, WIDTH)) / sum(lengths)
    torch.testing.assert_close(whole[1], expected, rtol=1e-4, atol=1e-7)
    assert whole[0] != pytest.approx(gradient_of(replace(options, shard_size=8, micro_batch_size=None))[0], rel=1e-4)


@pytest.mark.parametrize("size", [1, 5, 16, None])
def test_micro_batches_do_not_change_the_gradient(size: int | None) -> None:
    expected = gradient_of(recipe("corrected", micro_batch_size=8))
    got = gradient_of(recipe("corrected", micro_batch_size=size))
    assert got[0] == pytest.approx(expected[0], rel=1e-6)
    torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-7)


def test_token_weights_sum_to_one_in_either_way() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]], dtype=torch.bool)
    by_shard = token_weights(mask, recipe("paper", batch_size=4, shard_size=2))
    assert by_shard[mask].tolist() == [0.125] * 8
    uneven = token_weights(mask[:3], recipe("paper", batch_size=4, shard_size=2))
    assert uneven[mask[:3]].tolist() == [0.125] * 4 + [0.25] * 2
    assert token_weights(mask, recipe("corrected"))[mask].tolist() == [0.125] * 8


def test_a_response_of_which_no_token_counts_gives_a_loss_and_gradient_of_zero() -> None:
    lm = tiny_lm("qwen2")
    vectors = torch.randn(3, WIDTH)
    loss, gradient = entropy_gradient(lm, vectors, some_prompts(2), [[TEXT_END], [TEXT_END]], recipe("paper"))
    assert loss == 0
    assert not gradient.any()


# loss mask


def masked(options: Optimization, **tokens: Any) -> list[list[bool]]:
    """Which of the columns of two responses count: `65 66 eos` and `65`, filled up with padding."""
    lm = tiny_lm(**tokens)
    eos = sorted(lm.eos_ids)[0]
    ids = torch.tensor([[65, 66, eos], [65, lm.pad_token_id, lm.pad_token_id]])
    found: list[list[bool]] = loss_mask(lm, ids, torch.tensor([3, 1]), options).tolist()
    return found


def test_through_end_token_counts_what_was_written_and_no_padding() -> None:
    for tokens in ({}, {"pad_token_id": None, "eos_token_id": TURN_END}, {"eos_token_id": [TURN_END, STOP]}):
        assert masked(recipe("corrected"), **tokens) == [[True, True, True], [True, False, False]]


def test_the_released_mask_leaves_out_the_decision_to_stop_where_eos_is_pad() -> None:
    assert masked(recipe("paper"), pad_token_id=TEXT_END, eos_token_id=TEXT_END) == [
        [True, True, False],
        [True, False, False],
    ]


def test_the_released_mask_counts_padding_where_eos_is_not_pad() -> None:
    assert masked(recipe("paper"), pad_token_id=None, eos_token_id=TURN_END) == [
        [True, True, False],
        [True, True, True],
    ]


def test_the_released_mask_takes_pad_zero_for_no_pad() -> None:
    assert masked(recipe("paper"), pad_token_id=0, eos_token_id=TURN_END) == [[True, True, False], [True, True, True]]


def test_with_a_list_of_eos_ids_all_of_them_are_left_out() -> None:
    lm = tiny_lm(pad_token_id=None, eos_token_id=[TURN_END, STOP])
    ids = torch.tensor([[65, TURN_END, STOP, TEXT_END]])
    assert loss_mask(lm, ids, torch.tensor([4]), recipe("paper")).tolist() == [[True, False, False, True]]


# end of a rollout


def drawn(
    lm: LanguageModel, prompts: list[Prompt], vectors: Tensor, options: Optimization, stream: tuple[int, ...]
) -> list[Completion]:
    """The rollouts of one update."""
    return rollouts(lm, [(stream, prompts)], EmbeddingPrefix(SoftPrompt(vectors)), options, HFEngine())[0]


def test_rollouts_run_past_the_end_of_turn_only_where_the_recipe_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, prompts = tiny_lm(), some_prompts(1)
    assert lm.end_ids - lm.eos_ids == {TURN_END}
    write(lm, ["4<|im_end|>more<|endoftext|>"], monkeypatch)
    vectors, twelve = torch.zeros(2, WIDTH), Sampling(12, temperature=1.0)
    lengths = {
        end: len(drawn(lm, prompts, vectors, recipe("corrected", rollout=twelve, rollout_end=end), (0,))[0].token_ids)
        for end in ("any_end_token", "eos")
    }
    assert lengths == {"any_end_token": 2, "eos": 7}


def test_a_repeated_row_of_a_filled_up_batch_has_a_response_of_its_own() -> None:
    lm, prompt = tiny_lm(), some_prompts(1)[0]
    options = recipe("corrected", rollout=Sampling(10, temperature=1.5))
    first, second = drawn(lm, [prompt, prompt], torch.zeros(2, WIDTH), options, (15, 0))
    assert first.token_ids != second.token_ids
    assert drawn(lm, [prompt], torch.zeros(2, WIDTH), options, (15, 0))[0].token_ids == first.token_ids
    other = drawn(lm, [prompt], torch.zeros(2, WIDTH), options, (15, 1))[0]
    assert other.token_ids != first.token_ids


# whose entropy


def test_the_raw_entropy_ignores_the_rules_of_sampling_and_the_sampled_one_is_theirs() -> None:
    lm = tiny_lm("qwen2", torch.float64)
    rules = Sampling(6, temperature=0.5, top_p=0.95, top_k=20, repetition_penalty=1.15)
    raw, sampled = (gradient_of(recipe("corrected", entropy=e, rollout=rules), lm=lm) for e in ("raw", "sampled"))
    plain = gradient_of(recipe("corrected", entropy="raw", rollout=Sampling(6, temperature=1.0)), lm=lm)
    assert raw[0] == plain[0]
    assert sampled[0] < raw[0]


def test_the_sampled_entropy_of_the_loss_penalises_what_the_rollout_penalised() -> None:
    lm = tiny_lm("qwen2", torch.float64)
    rules = Sampling(6, temperature=0.7, top_k=30, repetition_penalty=1.5)
    prompt, response = some_prompts(1)[0], [65, 66, 65, 65]
    loss, _ = entropy_gradient(lm, torch.zeros(0, WIDTH), [prompt], [response], recipe("corrected", rollout=rules))
    ids = torch.tensor([[*prompt.token_ids, *response]])
    with torch.no_grad():
        logits = lm.model(input_ids=ids).logits[0, -5:-1]
    seen = torch.zeros(4, logits.shape[-1], dtype=torch.bool)
    for step in range(4):
        seen[step, response[:step]] = True
    assert loss == pytest.approx(float(sampled_entropy(logits, rules, seen).mean()), rel=1e-5)


def test_seen_before_holds_the_tokens_written_earlier_in_the_row() -> None:
    seen = seen_before(torch.tensor([[3, 1, 3], [0, 0, 2]]), 4)
    assert [[step.nonzero().flatten().tolist() for step in row] for row in seen] == [[[], [3], [1, 3]], [[], [0], [0]]]


# over-long prompts


def test_an_overlong_prompt_is_named_or_cut_on_the_right() -> None:
    template, problems = (
        TextTemplate("{question}"),
        [Problem("p1", "abc", "1", "t"), Problem("p2", "abcdefgh", "2", "t")],
    )
    with pytest.raises(UserError, match=r"problem 'p2' of t: its prompt has 8 tokens"):
        render_prompts(problems, template, tiny_tokenizer(), 4, recipe("corrected").overlong_prompt)
    cut = render_prompts(problems, template, tiny_tokenizer(), 4, recipe("paper").overlong_prompt)
    assert [p.text for p in cut] == ["abc", "abcd"]
    assert cut[1].token_ids == prompts_of("abcd")[0].token_ids


# evaluation


def test_sampling_is_taken_from_the_generation_config_or_from_the_fields() -> None:
    lm = tiny_lm()
    lm.model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.95, top_k=20)
    own = evaluation("paper").resolved(lm.generation_config).sampling
    assert own == Sampling(3072, temperature=0.6, top_p=0.95, top_k=20)
    fields = evaluation("corrected").resolved(lm.generation_config).sampling
    assert asdict(fields) == asdict(Sampling(3072))
    lm.model.generation_config.update(do_sample=False)
    assert evaluation("paper").resolved(lm.generation_config).sampling.greedy


def test_several_greedy_samples_are_refused() -> None:
    with pytest.raises(UserError, match="temperature"):
        evaluation("corrected", samples=4)
    with pytest.raises(UserError, match="samples=0"):
        evaluation("corrected", samples=0)
    with pytest.raises(UserError, match="temperature"):
        evaluation("paper", samples=4).resolved(GenerationConfig(do_sample=False))


def test_each_sample_of_a_problem_has_a_stream_of_its_own() -> None:
    sampled = replace(evaluation("corrected").decoding, sampling=Sampling(4, temperature=1.0))
    requests = Evaluation(sampled, 3, 15, "decoding").requests(some_prompts(2))
    assert [(r.prompt.problem_id, r.sample) for r in requests] == [(p, s) for p in ("p0", "p1") for s in range(3)]
    assert len({r.stream for r in requests}) == 6
    assert requests[0].stream != Evaluation(sampled, 3, 16, "decoding").requests(some_prompts(2))[0].stream


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"length": 0}, "length"),
        ({"shard_size": 5}, "shard_size=5 does not divide"),
        ({"shard_size": 0}, "shard_size"),
        ({"micro_batch_size": 4}, "micro_batch_size must be null"),
        ({"save_every": 0}, "save_every"),
        ({"rollout_updates": 0}, "rollout_updates"),
    ],
)
def test_an_option_out_of_range_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        recipe("paper", **changes)


def test_norms_of_the_initialisations_differ_as_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    build: Callable[..., Tensor] = initialize
    monkeypatch.setattr(LanguageModel, "hidden_size", 1536)
    assert float(build("standard_normal", 20, tiny_lm(), 15).norm(dim=-1).mean()) == pytest.approx(
        math.sqrt(1536), rel=0.02
    )
