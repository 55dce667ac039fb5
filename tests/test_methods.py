"""Each method against what defines it, on a tiny random model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import WIDTH, composed, decoding, recipe, requests_of, some_prompts, tiny_lm
from torch import Tensor
from torch.nn.functional import cross_entropy

from ttsv import stages
from ttsv.adaptations import (
    Adaptation,
    ChangedWeights,
    EmbeddingPrefix,
    EmbeddingPrefixes,
    HiddenShift,
    LowRank,
    peft_name,
)
from ttsv.config import component
from ttsv.engines.hf import HFEngine
from ttsv.loss import entropy_backward
from ttsv.methods.base import Method, Setting
from ttsv.models import LanguageModel
from ttsv.optimization import Seeds
from ttsv.records import Completion, Prompt, UserError
from ttsv.rollouts import rollouts
from ttsv.store import Store
from ttsv.trainables import LoRA, PrefixPerProblem

PROMPTS = some_prompts(5)
OPTIONS = recipe("corrected", updates=4, batch_size=4, micro_batch_size=2)
SETTING = Setting(OPTIONS, Seeds(1, 2, 3), PROMPTS, {"m": 1}, "prompts", HFEngine(), {})


def method(name: str, **changes: Any) -> Method:
    """A method as its config describes it."""
    built: Method = component(composed(f"method={name}", "scale=mini").method, "method")
    return replace(built, **changes)  # type: ignore[type-var]


def adapted(
    folder: Path, chosen: Method, lm: LanguageModel, setting: Setting = SETTING, update: int | None = None
) -> Adaptation:
    """What the stage holds, read back from its files."""
    stage = stages.adapt(Store(folder), chosen, setting, lambda: lm, dict).stage
    found = stages.read_adaptation(stage.path, update)
    assert found is not None
    assert found.identity() == stages.read_adaptation(stage.path, update).identity()  # type: ignore[union-attr]
    return found


def vectors(found: Adaptation) -> Tensor:
    assert isinstance(found, EmbeddingPrefix)
    return found.soft_prompt.vectors


def written(lm: LanguageModel, prompts: list[Prompt], adaptation: Adaptation | None, **rules: Any) -> list[Completion]:
    """Greedy completions."""
    found: dict[int, Completion] = {}
    for batch in HFEngine().generate(lm, requests_of(prompts), adaptation, decoding(8, **rules)):
        found.update(batch)
    return [found[i] for i in range(len(prompts))]


def weights(lm: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in lm.model.named_parameters()}


# entropy minimisation over weights


@pytest.mark.parametrize(("name", "kind"), [("em", ChangedWeights), ("em_lora", LowRank)])
def test_the_model_is_afterwards_what_it_was(tmp_path: Path, name: str, kind: type[Adaptation]) -> None:
    lm = tiny_lm("qwen2")
    before, modules, plain = weights(lm), dict(lm.model.named_modules()), written(lm, PROMPTS, None)
    found = adapted(tmp_path, method(name, learning_rate=0.05), lm)
    assert isinstance(found, kind)
    changed = written(lm, PROMPTS, found)
    assert [c.token_ids for c in changed] != [c.token_ids for c in plain]
    after = weights(lm)
    assert set(after) == set(before)
    assert all(torch.equal(after[n], before[n]) for n in before)
    assert dict(lm.model.named_modules()) == modules
    assert not any(p.requires_grad or p.grad is not None for p in lm.model.parameters())
    assert written(lm, PROMPTS, None) == plain


def test_the_model_is_restored_when_generation_fails() -> None:
    lm = tiny_lm()
    before = weights(lm)
    moved = ChangedWeights({name: tensor + 1 for name, tensor in before.items()})
    with pytest.raises(ZeroDivisionError), moved.applied(lm):
        raise ZeroDivisionError
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(lm).items())


def test_em_over_all_weights_is_adamw_down_the_entropy_of_its_own_rollouts(tmp_path: Path) -> None:
    options = replace(OPTIONS, updates=3, learning_rate=0.01, learning_rate_unit="absolute", schedule="linear")
    setting = replace(SETTING, optimization=replace(options, batch_size=5))
    found = adapted(tmp_path, method("em", learning_rate=0.01), tiny_lm("qwen2"), setting)

    lm = tiny_lm("qwen2")
    parameters = dict(lm.model.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.01, eps=options.adam_eps, weight_decay=0.0)
    nothing = EmbeddingPrefixes(tuple(p.problem_id for p in PROMPTS), torch.zeros(5, 0, WIDTH))
    for update in range(3):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - update / 3)
        order = _order(update)
        responses = rollouts(lm, [((3, update), order)], nothing, setting.optimization, HFEngine())[0]
        lm.model.requires_grad_(True)
        entropy_backward(lm, torch.zeros(0, WIDTH), order, [r.token_ids for r in responses], setting.optimization)
        optimizer.step()
        optimizer.zero_grad()
        lm.model.requires_grad_(False)
    assert isinstance(found, ChangedWeights)
    assert set(found.tensors) == set(parameters)
    for name, parameter in parameters.items():
        torch.testing.assert_close(found.tensors[name], parameter.detach(), rtol=0, atol=1e-6)


def _order(update: int) -> list[Prompt]:
    from ttsv.optimization import rows_of_update

    return [PROMPTS[i] for i in rows_of_update(replace(OPTIONS, batch_size=5), 5, update, 2)]


@pytest.mark.parametrize("name", ["em", "em_lora", "ttsv_sample", "ttsv"])
def test_entropy_falls_and_with_maximize_it_rises(tmp_path: Path, name: str) -> None:
    rate = {
        "em": {"learning_rate": 0.01},
        "em_lora": {"learning_rate": 0.1},
        "ttsv_sample": {"updates": 25},
        "ttsv": {},
    }
    options = replace(OPTIONS, updates=25, learning_rate=0.3, learning_rate_unit="absolute", reported="last")
    setting = replace(SETTING, optimization=options)

    def course(chosen: Method) -> list[float]:
        stage = stages.adapt(Store(tmp_path / chosen.name), chosen, setting, lambda: tiny_lm("qwen2"), dict).stage
        import pandas as pd

        rows = pd.read_json(stage.path / "history.jsonl", lines=True)
        return list(rows.groupby("update")["entropy"].mean())

    falling = course(method(name, **rate[name]))
    assert sum(falling[-5:]) < 0.97 * sum(falling[:5])
    if name == "ttsv":
        rising = course(method("entropy_maximization"))
        assert rising[0] == falling[0]
        assert sum(rising[-5:]) > sum(falling[-5:])


@pytest.mark.parametrize("name", ["ttsv", "entropy_maximization", "em", "em_lora", "ttsv_sample"])
def test_rollouts_are_drawn_at_once_for_every_method_that_optimises(tmp_path: Path, name: str) -> None:
    changes = {"em": {"learning_rate": 0.05}, "em_lora": {"learning_rate": 0.3}, "ttsv_sample": {"updates": 4}}
    chosen = method(name, **changes.get(name, {}))
    stale = replace(SETTING, optimization=replace(OPTIONS, rollout_updates=3))
    found = [stages.adapt(Store(tmp_path), chosen, s, lambda: tiny_lm("qwen2"), dict).stage for s in (SETTING, stale)]
    histories = [[json.loads(line) for line in (s.path / "history.jsonl").open()] for s in found]
    assert [[row["staleness"] for row in history] for history in histories] == [[0, 0, 0, 0], [0, 1, 2, 0]]
    assert [row["entropy"] == row_["entropy"] for row, row_ in zip(*histories, strict=True)] == [True, *[False] * 3]


def test_weights_kept_on_the_way_can_be_read_back_and_others_are_named(tmp_path: Path) -> None:
    lm = tiny_lm("qwen2")
    kept = method("em", learning_rate=0.05, keep=True)
    first = adapted(tmp_path, kept, lm, update=2)
    assert (
        first.identity() != adapted(tmp_path, kept, lm).identity() == adapted(tmp_path, kept, lm, update=4).identity()
    )
    assert written(lm, PROMPTS, adapted(tmp_path, kept, lm, update=0)) == written(lm, PROMPTS, None)
    with pytest.raises(UserError, match=r"at_update=3.*kept were 0, 2, 4"):
        adapted(tmp_path, kept, lm, update=3)
    with pytest.raises(UserError, match=r"kept were none .*method.keep=true"):
        adapted(tmp_path / "no", method("em"), lm, update=2)


def test_weights_of_another_model_are_refused() -> None:
    found = ChangedWeights(weights(tiny_lm("qwen2")))
    with pytest.raises(UserError, match="they are another model's"):
        written(tiny_lm("qwen2", hidden_size=48), PROMPTS, found)


def test_a_lora_adds_its_scaled_product_to_every_linear_layer_but_the_outputs() -> None:
    lm, lora = tiny_lm("qwen2"), LoRA(2, 6, seed=1)
    initial = lora.initial(lm)
    linear = {n for n, m in lm.model.named_modules() if isinstance(m, torch.nn.Linear)} - {"lm_head"}
    assert set(initial) == {peft_name(f"{name}.lora_{side}.weight") for name in linear for side in "AB"}
    again, other = lora.initial(lm), LoRA(2, 6, seed=2).initial(lm)
    for name, tensor in initial.items():
        assert torch.equal(tensor, again[name])
        assert torch.equal(tensor, other[name]) == (".lora_B." in name) == (not tensor.any())
    stream = torch.Generator().manual_seed(3)
    values = {name: torch.randn(tensor.shape, generator=stream) for name, tensor in initial.items()}
    changed = weights(lm)
    for name in linear:
        down, up = (values[peft_name(f"{name}.lora_{side}.weight")] for side in "AB")
        changed[f"{name}.weight"] += 6 / 2 * up @ down
    ids = torch.tensor([PROMPTS[0].token_ids])
    logits = []
    for adaptation in (lora.adaptation(values, {}), ChangedWeights(changed)):
        with torch.no_grad(), adaptation.applied(lm):
            logits.append(lm.model(ids).logits)
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)


# slot


def test_slot_fits_each_prompts_next_tokens_by_itself(tmp_path: Path) -> None:
    lm, slot = tiny_lm("qwen2"), method("slot", batch_size=2, steps=4)
    found = adapted(tmp_path, slot, lm)
    assert isinstance(found, HiddenShift)
    for prompt, shift in zip(PROMPTS, found.of([p.problem_id for p in PROMPTS]), strict=True):
        ids = torch.tensor([prompt.token_ids])
        hidden = lm.model.model(ids).last_hidden_state[0, :-1]
        delta = torch.nn.Parameter(torch.zeros(WIDTH))
        optimizer = torch.optim.AdamW([delta], lr=0.1, eps=1e-5, weight_decay=1e-8)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = cross_entropy(lm.model.lm_head(hidden + delta), ids[0, 1:])
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0]
        torch.testing.assert_close(shift, delta.detach(), rtol=1e-4, atol=1e-5)


def test_a_shift_acts_on_every_step_of_its_own_row_alone() -> None:
    lm = tiny_lm("qwen2")
    ids = tuple(p.problem_id for p in PROMPTS)
    shifts = torch.zeros(5, WIDTH)
    shifts[3] = 5 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
    plain, moved = written(lm, PROMPTS, None), written(lm, PROMPTS, HiddenShift(ids, shifts))
    assert [a.token_ids == b.token_ids for a, b in zip(plain, moved, strict=True)] == [True, True, True, False, True]
    row = torch.tensor([PROMPTS[3].token_ids])
    for token in moved[3].token_ids:
        hidden = lm.model.model(row).last_hidden_state[0, -1]
        assert int(lm.model.lm_head(hidden + shifts[3]).argmax()) == token
        row = torch.cat([row, torch.tensor([[token]])], dim=1)


def test_a_shift_follows_its_row_when_others_leave_the_batch() -> None:
    lm = tiny_lm("qwen2", eos_token_id=list(range(0, 240, 4)), pad_token_id=256)
    ids = tuple(p.problem_id for p in PROMPTS)
    shifts = 3 * torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(4))
    together = written(lm, PROMPTS, HiddenShift(ids, shifts), batch_size=5)
    alone = written(lm, PROMPTS, HiddenShift(ids, shifts), batch_size=1)
    assert len({len(c.token_ids) for c in together}) > 1
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]


def test_a_problem_without_a_vector_of_its_own_is_named() -> None:
    with pytest.raises(UserError, match=r"1 problems have no vector of their own \(p4"):
        written(tiny_lm(), PROMPTS, HiddenShift(("p0", "p1", "p2", "p3"), torch.zeros(4, WIDTH)))


# a vector for each problem


def test_problems_side_by_side_are_optimised_as_if_each_were_alone(tmp_path: Path) -> None:
    setting = replace(SETTING, optimization=replace(OPTIONS, learning_rate=0.1, learning_rate_unit="absolute"))
    together = adapted(tmp_path / "a", method("ttsv_sample", updates=3, side_by_side=5), tiny_lm("qwen2"), setting)
    alone = adapted(tmp_path / "b", method("ttsv_sample", updates=3, side_by_side=1), tiny_lm("qwen2"), setting)
    ids = [p.problem_id for p in PROMPTS]
    assert isinstance(together, EmbeddingPrefixes)
    assert isinstance(alone, EmbeddingPrefixes)
    torch.testing.assert_close(together.of(ids), alone.of(ids), rtol=0, atol=2e-5)
    assert not torch.allclose(together.of(["p0"]), together.of(["p1"]), atol=1e-3)
    # One problem alone is the shared variant on that problem.
    single = replace(setting, prompts=PROMPTS[:1], optimization=replace(setting.optimization, updates=3, batch_size=1))
    shared = adapted(tmp_path / "c", method("ttsv"), tiny_lm("qwen2"), single)
    torch.testing.assert_close(vectors(shared), alone.of(["p0"])[0], rtol=0, atol=1e-6)


def test_each_row_is_generated_with_its_own_prefix(tmp_path: Path) -> None:
    lm, ids = tiny_lm("qwen2"), tuple(p.problem_id for p in PROMPTS)
    values = torch.randn(5, 2, WIDTH, generator=torch.Generator().manual_seed(1))
    together = written(lm, PROMPTS, EmbeddingPrefixes(ids, values))
    from ttsv.soft_prompt import SoftPrompt

    for i, prompt in enumerate(PROMPTS):
        own = written(lm, [prompt], EmbeddingPrefix(SoftPrompt(values[i])))
        assert own[0].token_ids == together[i].token_ids


def test_several_responses_to_a_problem_are_averaged(tmp_path: Path) -> None:
    one = adapted(tmp_path / "1", method("ttsv_sample", updates=2), tiny_lm("qwen2"))
    four = adapted(tmp_path / "4", method("ttsv_sample", updates=2, samples=4), tiny_lm("qwen2"))
    assert one.identity() != four.identity()
    # The gradient of a problem is that of the mean over its responses.
    lm, responses = tiny_lm("qwen2"), [[65, 66], [67], [68, 69, 70]]
    trainable = PrefixPerProblem(torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(3)), ("p1",))
    both = trainable.gradient(lm, trainable.initial(lm), [PROMPTS[1]] * 3, responses, OPTIONS)
    each = [trainable.gradient(lm, trainable.initial(lm), [PROMPTS[1]], [r], OPTIONS) for r in responses]
    expected = torch.stack([g["vectors"] for _, g in each]).mean(0)
    torch.testing.assert_close(both[1]["vectors"], expected, rtol=0, atol=1e-5)
    assert both[0] == pytest.approx(sum(loss for loss, _ in each) / 3, rel=1e-4)


def test_problems_side_by_side_are_apart_under_the_papers_recipe_too(tmp_path: Path) -> None:
    options = recipe("paper", learning_rate=0.1, shard_size=8, batch_size=8)
    setting = replace(SETTING, optimization=options)
    together = adapted(tmp_path / "a", method("ttsv_sample", updates=2, side_by_side=5), tiny_lm("qwen2"), setting)
    alone = adapted(tmp_path / "b", method("ttsv_sample", updates=2, side_by_side=1), tiny_lm("qwen2"), setting)
    ids = [p.problem_id for p in PROMPTS]
    assert isinstance(together, EmbeddingPrefixes)
    assert isinstance(alone, EmbeddingPrefixes)
    torch.testing.assert_close(together.of(ids), alone.of(ids), rtol=0, atol=2e-4)


def test_a_norm_over_several_problems_is_refused(tmp_path: Path) -> None:
    setting = replace(SETTING, optimization=replace(OPTIONS, clip_norm=1.0))
    with pytest.raises(UserError, match="depend on each other"):
        adapted(tmp_path, method("ttsv_sample"), tiny_lm(), setting)


def test_a_finished_group_is_not_optimised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ttsv.methods import ttsv_sample as module

    chosen, whole, count = method("ttsv_sample", updates=2, side_by_side=2), module.optimized, iter(range(100))

    def stopping(*arguments: Any) -> Any:
        if next(count) == 2:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(module, "optimized", stopping)
    with pytest.raises(KeyboardInterrupt):
        adapted(tmp_path / "killed", chosen, tiny_lm("qwen2"))
    import ttsv.optimize

    updates, step = [], ttsv.optimize._one_update
    monkeypatch.setattr(ttsv.optimize, "_one_update", lambda *a: (updates.append(1), step(*a)))
    resumed = adapted(tmp_path / "killed", chosen, tiny_lm("qwen2"))
    assert len(updates) == 2
    assert resumed.identity() == adapted(tmp_path / "whole", chosen, tiny_lm("qwen2")).identity()


# prefixes that nothing optimises


def test_random_prefixes_are_draws_of_the_same_initialisation(tmp_path: Path) -> None:
    setting = replace(SETTING, optimization=replace(OPTIONS, initialization="standard_normal", length=40))
    draws = [vectors(adapted(tmp_path, method("random_prefix", draw=n), tiny_lm(), setting)) for n in (1, 2)]
    untrained = vectors(adapted(tmp_path, method("untrained_prefix"), tiny_lm(), setting))
    for found in draws:
        assert found.shape == untrained.shape
        assert float(found.std()) == pytest.approx(1, abs=0.1)
        assert abs(float(torch.corrcoef(torch.stack([found.flatten(), untrained.flatten()]))[0, 1])) < 0.1
    assert not torch.equal(*draws)


def test_transformed_prefixes_keep_what_they_say_and_nothing_else(tmp_path: Path) -> None:
    lm = tiny_lm("qwen2")
    trained = vectors(adapted(tmp_path, method("ttsv"), lm))
    start = vectors(adapted(tmp_path, method("untrained_prefix"), lm))
    shuffled = vectors(adapted(tmp_path, method("shuffled_prefix"), lm))
    assert not torch.equal(shuffled, trained)
    assert sorted(map(tuple, shuffled.tolist())) == sorted(map(tuple, trained.tolist()))
    matched = vectors(adapted(tmp_path, method("norm_matched_prefix"), lm))
    torch.testing.assert_close(matched.norm(dim=1), trained.norm(dim=1))
    assert float(torch.cosine_similarity(matched, trained).abs().max()) < 0.7
    moved = vectors(adapted(tmp_path, method("random_updates"), lm))
    torch.testing.assert_close((moved - start).norm(dim=1), (trained - start).norm(dim=1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(moved, trained)


@pytest.mark.parametrize("initialization", ["standard_normal", "data_statistics", "vocabulary", "text"])
@pytest.mark.parametrize("name", ["norm_matched_prefix", "random_updates"])
def test_random_directions_have_nothing_to_do_with_the_initial_vector(
    tmp_path: Path, name: str, initialization: Any
) -> None:
    options = replace(OPTIONS, initialization=initialization, initialization_text="abc def", length=8)
    setting, lm = replace(SETTING, optimization=options), tiny_lm("qwen2")
    start = vectors(adapted(tmp_path, method("untrained_prefix"), lm, setting))
    found = vectors(adapted(tmp_path, method(name), lm, setting))
    direction = found if name == "norm_matched_prefix" else found - start
    assert abs(float(torch.cosine_similarity(direction.flatten(), start.flatten(), dim=0))) < 0.25
    assert float(torch.cosine_similarity(direction, start).abs().max()) < 0.75


def test_random_updates_of_a_file_are_addressed_by_the_initial_vector_too(tmp_path: Path) -> None:
    torch.save({"weight": torch.randn(3, WIDTH)}, tmp_path / "prefix_embeddings.pt")
    chosen = method("random_updates", path=str(tmp_path))
    other = replace(SETTING, optimization=replace(OPTIONS, initialization="standard_normal"))
    assert chosen.determined_by(SETTING) != chosen.determined_by(other)


def test_a_transformed_prefix_finds_the_vector_of_ttsv_once(tmp_path: Path) -> None:
    adapted(tmp_path, method("shuffled_prefix"), tiny_lm("qwen2"))
    (trained,) = (path for path in (tmp_path / "adapt").iterdir() if path.name.startswith("ttsv-"))
    (changed,) = (path for path in (tmp_path / "adapt").iterdir() if path.name.startswith("shuffled-prefix-"))
    cost, whole = (json.loads((path / "adaptation.json").read_text()) for path in (trained, changed))
    assert (whole["tokens_rollout"], whole["tokens_loss"]) == (cost["tokens_rollout"], cost["tokens_loss"])
    assert whole["seconds"] > cost["seconds"] > 0
    assert stages.adapt(Store(tmp_path), method("ttsv"), SETTING, lambda: pytest.fail("computed again"), dict).reused


def test_a_transformed_prefix_of_a_file_is_that_files(tmp_path: Path) -> None:
    torch.save({"weight": torch.randn(6, WIDTH)}, tmp_path / "prefix_embeddings.pt")
    own = torch.load(tmp_path / "prefix_embeddings.pt", weights_only=True)["weight"]
    shuffled = vectors(adapted(tmp_path / "s", method("shuffled_prefix", path=str(tmp_path)), tiny_lm()))
    assert sorted(map(tuple, shuffled.tolist())) == sorted(map(tuple, own.tolist()))
    with pytest.raises(UserError, match=r"initial vector \(3, 32\), but the file holds \(6, 32\)"):
        adapted(tmp_path / "s", method("random_updates", path=str(tmp_path)), tiny_lm())


def test_one_row_cannot_be_shuffled(tmp_path: Path) -> None:
    setting = replace(SETTING, optimization=replace(OPTIONS, length=1))
    with pytest.raises(UserError, match="at least 2 rows"):
        adapted(tmp_path, method("shuffled_prefix"), tiny_lm(), setting)


def test_a_text_prefix_is_the_text_in_front_of_the_prompt(tmp_path: Path) -> None:
    lm = tiny_lm("qwen2")
    found = adapted(tmp_path, method("text_prefix", text="abc"), lm)
    ids = lm.tokenizer("abc", add_special_tokens=False)["input_ids"]
    assert torch.equal(vectors(found), lm.token_embeddings[ids])
    in_words = [replace(p, token_ids=(*ids, *p.token_ids)) for p in PROMPTS]
    assert [c.token_ids for c in written(lm, PROMPTS, found)] == [c.token_ids for c in written(lm, in_words, None)]


@pytest.mark.parametrize("name", ["random_prefix", "text_prefix", "slot"])
def test_what_does_not_depend_on_training_is_not_addressed_by_it(name: str) -> None:
    other = replace(
        SETTING, seeds=Seeds(1, 9, 9), optimization=replace(OPTIONS, learning_rate=9.0, updates=99), engine_key={"x": 1}
    )
    assert method(name).determined_by(other) == method(name).determined_by(SETTING)
