"""The decoding loop: what transformers.generate gives, with rows that stop by themselves and draw from streams of their own."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import (
    ARCHITECTURES,
    STOP,
    TEXT_END,
    TURN_END,
    WIDTH,
    decoding,
    prompts_of,
    requests_of,
    some_prompts,
    tiny_lm,
    with_ends,
    write,
)
from transformers import GenerationConfig

from ttsv.adaptations import EmbeddingPrefix
from ttsv.engines import hf
from ttsv.engines.base import Decoding, Request, Stopping, own_sampling, refuse_unsupported, resolve
from ttsv.engines.hf import HFEngine
from ttsv.models import LanguageModel
from ttsv.objectives import raw_entropy
from ttsv.records import Completion, Prompt, UserError
from ttsv.sampling import Sampling
from ttsv.soft_prompt import SoftPrompt

NEVER = frozenset({10_000})


def prefix_of(length: int = 3) -> EmbeddingPrefix:
    return EmbeddingPrefix(SoftPrompt(torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(9))))


def generate(
    lm: LanguageModel,
    prompts: list[Prompt],
    rules: Decoding,
    adaptation: EmbeddingPrefix | None = None,
    engine: HFEngine | None = None,
    **more: Any,
) -> list[Completion]:
    found: dict[int, Completion] = {}
    for batch in (engine or HFEngine()).generate(lm, requests_of(prompts), adaptation, rules, **more):
        found.update(batch)
    return [found[i] for i in range(len(prompts))]


def plain_greedy(
    lm: LanguageModel, prompt: Prompt, adaptation: EmbeddingPrefix | None, settings: GenerationConfig
) -> list[int]:
    """What generate writes for one row from input embeddings, without padding."""
    embedded = lm.embed(torch.tensor([prompt.token_ids]))
    if adaptation:
        embedded = torch.cat([adaptation.soft_prompt.vectors.to(lm.dtype)[None], embedded], dim=1)
    ids: list[int] = lm.model.generate(
        inputs_embeds=embedded, attention_mask=torch.ones(embedded.shape[:2]), generation_config=settings
    )[0].tolist()
    return ids


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("order", ["padding_prefix_prompt", "prefix_padding_prompt"])
@pytest.mark.parametrize("adaptation", [None, prefix_of()], ids=["alone", "prefix"])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("static_cache", [False, True], ids=["growing", "static"])
def test_greedy_decoding_equals_generate_token_for_token(
    architecture: str, order: Any, adaptation: EmbeddingPrefix | None, penalty: float, static_cache: bool
) -> None:
    lm, prompts = tiny_lm(architecture, torch.float64), some_prompts(5)
    settings = GenerationConfig(
        max_new_tokens=12,
        do_sample=False,
        repetition_penalty=penalty,
        eos_token_id=sorted(lm.eos_ids),
        pad_token_id=0,
    )
    rules = decoding(12, Stopping("eos"), order=order, batch_size=3, repetition_penalty=penalty)
    written = generate(lm, prompts, rules, adaptation, HFEngine(static_cache=static_cache))
    for prompt, got in zip(prompts, written, strict=True):
        assert list(got.token_ids) == plain_greedy(lm, prompt, adaptation, settings)


def test_the_penalty_counts_new_tokens_only_and_changes_the_text() -> None:
    lm = with_ends(tiny_lm(dtype=torch.float64), NEVER)
    prompt = prompts_of("abcabcabc")
    free = generate(lm, prompt, decoding(1))[0].token_ids
    assert generate(lm, prompt, decoding(1, repetition_penalty=50.0))[0].token_ids == free
    again = [Prompt("p0", "", (*prompt[0].token_ids, *free))]
    assert generate(lm, again, decoding(1, repetition_penalty=50.0)) == generate(lm, again, decoding(1))
    longer = [generate(lm, prompt, decoding(60, repetition_penalty=p))[0].token_ids for p in (1.0, 50.0)]
    assert longer[0] != longer[1]
    assert len(set(longer[1])) == 60


SAMPLED = {"temperature": 1.0, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.15}


@pytest.mark.parametrize("adaptation", [None, prefix_of()], ids=["alone", "prefix"])
def test_a_sampled_row_does_not_depend_on_batch_size_or_order(adaptation: EmbeddingPrefix | None) -> None:
    lm, prompts = tiny_lm("qwen2", torch.float64), some_prompts(7)
    expected = {c.problem_id: c for c in generate(lm, prompts, decoding(10, batch_size=7, **SAMPLED), adaptation)}
    assert len({c.token_ids for c in expected.values()}) > 3
    for size, chosen, sort in ((1, prompts, True), (3, prompts[::-1], False), (2, prompts[2:5], True)):
        rules = decoding(10, batch_size=size, sort_by_length=sort, **SAMPLED)
        for got in generate(lm, chosen, rules, adaptation):
            assert got.token_ids == expected[got.problem_id].token_ids
            assert got.mean_entropy == pytest.approx(expected[got.problem_id].mean_entropy, abs=1e-5)


def test_streams_decide_what_is_sampled() -> None:
    lm, prompt = tiny_lm(dtype=torch.float64), some_prompts(1)[0]
    requests = [Request(prompt, s, ("seed", seed, s)) for seed in (1, 2) for s in (0, 1)] + [
        Request(prompt, 0, ("seed", 1, 0))
    ]
    (batch,) = HFEngine().generate(lm, requests, None, decoding(10, temperature=1.0))
    assert len({batch[i].token_ids for i in range(4)}) == 4
    assert batch[4].token_ids == batch[0].token_ids


@pytest.mark.parametrize("order", ["padding_prefix_prompt", "prefix_padding_prompt"])
def test_rows_of_one_prompt_share_its_prefill_and_write_what_they_write_alone(
    order: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, prompts = tiny_lm("qwen3", torch.float64), some_prompts(3)
    requests = [Request(p, s, (p.problem_id, s)) for s in range(4) for p in prompts]
    rules = decoding(8, order=order, batch_size=len(requests), **SAMPLED)
    alone = [next(HFEngine().generate(lm, [r], prefix_of(), rules))[0].token_ids for r in requests]
    computed, forward = [], hf.forward

    def counted(
        lm: LanguageModel, cache: Any, attention: torch.Tensor, *rest: Any, **inputs: torch.Tensor
    ) -> torch.Tensor:
        computed.append(len(attention))
        return forward(lm, cache, attention, *rest, **inputs)

    monkeypatch.setattr(hf, "forward", counted)
    (batch,) = HFEngine().generate(lm, requests, prefix_of(), rules)
    assert sum(computed) == len(prompts)
    assert [batch[i].token_ids for i in range(len(requests))] == alone
    assert len(set(alone)) > len(prompts)


def ends_of(completions: list[Completion], at: int) -> frozenset[int]:
    """The tokens that rows wrote at a place: as end tokens they end each row there or before."""
    return frozenset(c.token_ids[at] for c in completions)


@pytest.mark.parametrize("static_cache", [False, True], ids=["growing", "static"])
@pytest.mark.parametrize("keep_share", [0.0, 0.5, 1.0])
def test_each_row_stops_at_any_end_token_and_is_cut_there(keep_share: float, static_cache: bool) -> None:
    lm, prompts = tiny_lm("qwen3", torch.float64), some_prompts(6)
    rules = decoding(16, batch_size=6, temperature=1.5)
    free = generate(with_ends(lm, NEVER), prompts, rules)
    assert {c.finish_reason for c in free} == {"length"}
    assert {len(c.token_ids) for c in free} == {16}
    ends = frozenset([free[0].token_ids[2], free[1].token_ids[5], free[2].token_ids[9]])
    written = generate(with_ends(lm, ends), prompts, rules, engine=HFEngine(keep_share, static_cache))
    for got, whole in zip(written, free, strict=True):
        first = next((i for i, token in enumerate(whole.token_ids) if token in ends), None)
        if first is None:
            assert (got.token_ids, got.finish_reason) == (whole.token_ids, "length")
        else:
            assert (got.token_ids, got.finish_reason) == (whole.token_ids[: first + 1], "stop")
            assert got.text == lm.decode(whole.token_ids[:first])
    assert sum(c.finish_reason == "stop" for c in generate(with_ends(lm, ends), prompts, rules)) >= 3


def test_finished_rows_that_leave_change_nothing() -> None:
    lm, prompts = tiny_lm("llama", torch.float64), some_prompts(6)
    rules = decoding(14, batch_size=6, **SAMPLED)
    free = generate(with_ends(lm, NEVER), prompts, rules)
    with_ends(lm, ends_of(free[:2], 3) | ends_of(free[2:4], 6))
    staying, leaving = (generate(lm, prompts, rules, prefix_of(), HFEngine(share)) for share in (0.0, 1.0))
    assert [c.token_ids for c in staying] == [c.token_ids for c in leaving]
    assert [c.mean_entropy for c in staying] == pytest.approx([c.mean_entropy for c in leaving], abs=1e-6)


RELEASED = Stopping("eos", ("</s>", "<|im_end|>", "<|endoftext|>"))


def test_the_eos_rule_runs_past_the_templates_end_of_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, prompts = tiny_lm(), some_prompts(1)
    assert lm.eos_ids == {TEXT_END}
    assert lm.end_ids == {TEXT_END, TURN_END}
    write(lm, ["4<|im_end|>more<|endoftext|>"], monkeypatch)
    (any_end,) = generate(lm, prompts, decoding(12, Stopping("any_end_token")))
    (eos_only,) = generate(lm, prompts, decoding(12, Stopping("eos")))
    assert (any_end.text, any_end.token_ids[-1], len(any_end.token_ids)) == ("4", TURN_END, 2)
    assert (eos_only.text, eos_only.token_ids[-1], len(eos_only.token_ids)) == ("4more", TEXT_END, 7)
    assert any_end.finish_reason == eos_only.finish_reason == "stop"


def test_stop_strings_end_a_batch_once_every_row_holds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, prompts = tiny_lm(), some_prompts(2)
    write(lm, ["1<|im_end|>abcdefghijk", "12345</s>xyzxyz"], monkeypatch)
    together = generate(lm, prompts, decoding(14, RELEASED, batch_size=2, sort_by_length=False))
    assert [len(c.token_ids) for c in together] == [9, 9]
    assert [c.finish_reason for c in together] == ["stop", "stop"]
    assert together[0].text == "1abcdefg"
    assert together[1].text == "12345</s>"


def test_with_stop_strings_a_rows_text_depends_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, prompts = tiny_lm(), some_prompts(1)
    write(lm, ["1<|im_end|>abcdefghijk"], monkeypatch)
    (alone,) = generate(lm, prompts, decoding(14, RELEASED))
    assert alone.text == "1"
    assert len(alone.token_ids) == 2


def test_of_the_stop_strings_only_the_last_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, prompts = tiny_lm(), some_prompts(1)
    write(lm, ["7STOPmoreENDrest"], monkeypatch)
    (first_last,) = generate(lm, prompts, decoding(16, Stopping("eos", ("never", "STOP"))))
    assert first_last.text == "7"
    (kept,) = generate(lm, prompts, decoding(16, Stopping("eos", ("STOP", "never"))))
    assert kept.text == "7STOP"


def test_a_row_without_any_stop_is_marked_by_length(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, prompts = tiny_lm(), some_prompts(2)
    write(lm, ["1<|im_end|>aaaaaaaaaaaa", "bbbbbbbbbbbbbbbbb"], monkeypatch)
    both = generate(lm, prompts, decoding(10, RELEASED, batch_size=2, sort_by_length=False))
    assert [len(c.token_ids) for c in both] == [10, 10]
    assert both[1].finish_reason == "length"


def test_mean_entropy_is_that_of_the_models_own_distribution_over_the_written_tokens() -> None:
    lm, prompts = with_ends(tiny_lm("qwen2", torch.float64), NEVER), some_prompts(3)
    adaptation = prefix_of()
    for prompt, got in zip(prompts, generate(lm, prompts, decoding(8, **SAMPLED), adaptation), strict=True):
        ids = torch.tensor([*prompt.token_ids, *got.token_ids])
        embedded = torch.cat([adaptation.soft_prompt.vectors.double(), lm.embed(ids)])
        with torch.no_grad():
            logits = lm.model(inputs_embeds=embedded[None]).logits[0, -9:-1]
        assert got.mean_entropy == pytest.approx(float(raw_entropy(logits).mean()), abs=1e-5)


@pytest.mark.parametrize("stopping", [Stopping(), RELEASED])
def test_progress_slots_sum_to_the_budget(stopping: Stopping, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, prompts = tiny_lm(), some_prompts(3)
    texts = ["1<|im_end|>abcdefghijk", "12345</s>x<|im_end|>zxyz", "<|endoftext|>"]
    write(lm, texts, monkeypatch)
    slots: list[int] = []
    generate(lm, prompts, decoding(20, stopping, batch_size=3, sort_by_length=False), progress=slots.append)
    assert sum(slots) == 3 * 20
    assert all(slot > 0 for slot in slots)


def test_longest_prompts_share_the_first_batch_when_sorted() -> None:
    lm, prompts = tiny_lm(), some_prompts(5)
    batches = list(HFEngine().generate(lm, requests_of(prompts), None, decoding(2, batch_size=2)))
    lengths = [[len(prompts[i].token_ids) for i in batch] for batch in batches]
    assert lengths[0] == sorted((len(p.token_ids) for p in prompts), reverse=True)[:2]
    assert sorted(i for batch in batches for i in batch) == list(range(5))


def test_decoding_in_low_precision_gives_finite_entropies() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        for got in generate(tiny_lm(dtype=dtype), some_prompts(3), decoding(4), prefix_of()):
            assert 0 < got.mean_entropy < 6


def test_an_engine_refuses_a_kind_it_cannot_carry_out() -> None:
    refuse_unsupported(HFEngine(), EmbeddingPrefix)
    refuse_unsupported(HFEngine(), None)
    with pytest.raises(
        UserError, match=r"engine=hf cannot generate with dict; it supports ChangedWeights, EmbeddingPrefix, "
    ):
        refuse_unsupported(HFEngine(), dict)


@pytest.mark.parametrize(("own", "expected"), [(20, 20), (None, 50), (0, 0)])
def test_top_k_left_to_the_model_is_its_generation_configs_or_50(own: int | None, expected: int) -> None:
    lm = tiny_lm()
    lm.model.generation_config = GenerationConfig(top_k=own)
    assert resolve(Sampling(1, temperature=0.5, top_k=-1), lm.generation_config) == Sampling(
        1, temperature=0.5, top_k=expected
    )
    assert resolve(Sampling(1, temperature=0.5, top_k=7), lm.generation_config).top_k == 7


def test_a_models_own_sampling_is_that_of_its_generation_config() -> None:
    lm = tiny_lm()
    lm.model.generation_config = GenerationConfig(do_sample=False, temperature=0.3, repetition_penalty=1.1)
    assert own_sampling(lm.generation_config, 8) == Sampling(8, temperature=0.0, repetition_penalty=1.1)
    lm.model.generation_config = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.95, top_k=20)
    assert own_sampling(lm.generation_config, 8) == Sampling(8, temperature=0.6, top_p=0.95, top_k=20)
    lm.model.generation_config = GenerationConfig(do_sample=True)
    assert own_sampling(lm.generation_config, 8) == Sampling(8, temperature=1.0, top_p=1.0, top_k=50)


def test_batches_below_one_row_are_refused() -> None:
    with pytest.raises(UserError, match="batch_size=0"):
        replace(decoding(), batch_size=0)


def test_the_end_of_turn_of_another_vocabulary_is_an_end_only_if_named() -> None:
    assert STOP not in tiny_lm().end_ids


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_where_attention_takes_no_mask_a_static_cache_is_not_used(architecture: str) -> None:
    lm, prompts = tiny_lm(architecture, torch.float64, attn_implementation="eager"), some_prompts(5)
    growing, static = (generate(lm, prompts, decoding(8), prefix_of(), HFEngine(static_cache=s)) for s in (False, True))
    assert [c.token_ids for c in static] == [c.token_ids for c in growing]
    assert not lm.takes_masks
    assert tiny_lm(architecture).takes_masks
