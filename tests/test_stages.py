"""Stages: computed once, found by what decides them, gone on with where they were interrupted."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from tiny_models import WIDTH, evaluation, recipe, requests_of, some_prompts, tiny_lm

from ttsv import stages
from ttsv.adaptations import EmbeddingPrefix
from ttsv.engines.base import Decoding, Request
from ttsv.engines.hf import HFEngine
from ttsv.grading import grade
from ttsv.methods.base import Setting
from ttsv.methods.none import NoPrefix
from ttsv.methods.released_vector import ReleasedVector
from ttsv.methods.ttsv import TTSV
from ttsv.methods.untrained_prefix import UntrainedPrefix
from ttsv.models import LanguageModel
from ttsv.optimization import Seeds
from ttsv.optimize import kept
from ttsv.records import Completion, Problem, UserError, Verdict
from ttsv.sampling import Sampling
from ttsv.soft_prompt import SoftPrompt, initialize, load_soft_prompt
from ttsv.store import Outcome, Store

OPTIONS = recipe("corrected", updates=2, batch_size=3)
SETTING = Setting(OPTIONS, Seeds(1, 2, 3), some_prompts(4), {"fingerprint": "m"}, "prompts", HFEngine(), {"name": "hf"})
GREEDY = replace(evaluation("corrected").decoding, sampling=Sampling(5), batch_size=2)
SAMPLED = replace(GREEDY, sampling=Sampling(5, temperature=1.0))


@dataclass(frozen=True)
class ExactGrader:
    """Right where the text is the gold answer."""

    name: str = "exact"
    version: int = 1

    def grade(self, golds: Sequence[str], texts: Sequence[str]) -> list[Verdict]:
        return [Verdict(gold == text, text, "ok", "") for gold, text in zip(golds, texts, strict=True)]


@dataclass(frozen=True)
class CountingEngine:
    """The real engine; counts rows, and fails after so many batches where told to."""

    rows: list[str]
    fail_after: int | None = None
    name: str = "hf"
    supports: ClassVar[frozenset[type]] = HFEngine.supports

    def generate(self, *arguments: Any) -> Iterator[dict[int, Completion]]:
        for number, batch in enumerate(HFEngine().generate(*arguments)):
            if number == self.fail_after:
                raise KeyboardInterrupt
            self.rows.extend(f"{c.problem_id}/{c.sample}" for c in batch.values())
            yield batch


def never() -> LanguageModel:
    raise AssertionError("the model was loaded though nothing had to be computed")


def adapt(store: Store, method: Any = None, setting: Setting = SETTING, load: Any = tiny_lm) -> Outcome:
    return stages.adapt(store, method or TTSV(), setting, load, dict)


def generate(
    store: Store,
    requests: Sequence[Request],
    decoding: Decoding = GREEDY,
    adaptation: EmbeddingPrefix | None = None,
    engine: Any = None,
    load: Any = tiny_lm,
    **keys: Any,
) -> Outcome:
    return stages.generate(
        store, "tiny", requests, adaptation, decoding, engine or HFEngine(), {"model": "m", **keys}, load, dict
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "stages")


def test_a_vector_is_optimised_once(store: Store) -> None:
    first = adapt(store)
    again = adapt(store, load=never)
    assert (first.reused, again.reused) == (False, True)
    assert first.stage.path == again.stage.path
    found = stages.read_adaptation(first.stage.path)
    assert found is not None
    assert found.soft_prompt.vectors.shape == (3, WIDTH)
    assert found.soft_prompt.metadata["seeds"] == {"initialization": 1, "order": 2, "rollout": 3}
    record = json.loads((first.stage.path / "adaptation.json").read_text())
    assert (record["updates"], record["reported_update"], record["note"]) == (2, 2, None)
    assert record["tokens_rollout"] > 0


@pytest.mark.parametrize(
    "changed",
    [
        replace(SETTING, seeds=Seeds(9, 2, 3)),
        replace(SETTING, seeds=Seeds(1, 9, 3)),
        replace(SETTING, seeds=Seeds(1, 2, 9)),
        replace(SETTING, model_key={"fingerprint": "n"}),
        replace(SETTING, prompts_key="others"),
        replace(SETTING, optimization=replace(OPTIONS, learning_rate=0.123)),
        replace(SETTING, optimization=replace(OPTIONS, rollout=replace(OPTIONS.rollout, top_p=0.9))),
        replace(SETTING, optimization=replace(OPTIONS, layout=recipe("paper").layout)),
        replace(SETTING, engine_key={"name": "other"}),
    ],
)
def test_whatever_decides_a_vector_is_in_its_address(store: Store, changed: Setting) -> None:
    def address(setting: Setting) -> Path:
        class FoundError(Exception):
            pass

        def stop(stage: Any, *rest: Any) -> Any:
            raise FoundError(stage.path)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(stages, "once", stop)
            with pytest.raises(FoundError) as found:
                adapt(store, setting=setting)
        return Path(str(found.value.args[0]))

    assert address(changed) != address(SETTING)
    assert address(replace(SETTING, checkpoint_every=7)) == address(SETTING)


def test_an_untrained_prefix_is_where_ttsv_starts_and_ignores_what_only_training_needs(store: Store) -> None:
    untrained = adapt(store, UntrainedPrefix())
    start = initialize(OPTIONS.initialization, OPTIONS.length, tiny_lm(), 1)
    found = stages.read_adaptation(untrained.stage.path)
    assert found is not None
    assert torch.equal(found.soft_prompt.vectors, start)
    trained = adapt(store).stage.path
    from_training = SoftPrompt(start).content_digest()
    assert load_soft_prompt(kept(trained, 0)).content_digest() == from_training
    other = replace(SETTING, seeds=Seeds(1, 9, 9), prompts_key="x", optimization=replace(OPTIONS, learning_rate=9.0))
    assert adapt(store, UntrainedPrefix(), other, never).reused
    with pytest.raises(AssertionError, match="was loaded"):
        adapt(store, UntrainedPrefix(), replace(SETTING, seeds=Seeds(9, 2, 3)), never)


def test_no_prefix_is_an_adaptation_of_nothing(store: Store) -> None:
    assert stages.read_adaptation(adapt(store, NoPrefix()).stage.path) is None


def test_a_released_vector_is_checked_against_each_model_it_is_used_with(store: Store, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2, WIDTH)}, tmp_path / "prefix_embeddings.pt")
    method = ReleasedVector(str(tmp_path))
    found = stages.read_adaptation(adapt(store, method).stage.path)
    assert found is not None
    assert found.soft_prompt.vectors.tolist() == [[1.0] * WIDTH] * 2
    wider = replace(SETTING, model_key={"fingerprint": "wider"})
    with pytest.raises(UserError, match=f"has width {WIDTH}, but tiny has hidden size 48"):
        adapt(store, method, wider, lambda: tiny_lm(hidden_size=48))


def test_a_generation_is_found_by_rows_rules_and_adaptation(store: Store) -> None:
    requests = requests_of(some_prompts(3))
    prefix = EmbeddingPrefix(SoftPrompt(torch.ones(2, WIDTH)))
    assert not generate(store, requests).reused
    assert generate(store, requests, load=never).reused
    for changed in (
        {"decoding": replace(GREEDY, sampling=Sampling(6))},
        {"decoding": replace(GREEDY, order="prefix_padding_prompt")},
        {"adaptation": prefix},
        {"model": "n"},
        {"requests": requests[:2]},
    ):
        with pytest.raises(AssertionError, match="was loaded"):
            generate(store, **{"requests": requests, "load": never, **changed})
    renamed = EmbeddingPrefix(SoftPrompt(torch.ones(2, WIDTH), {"method": "another way to the same numbers"}))
    generate(store, requests, adaptation=prefix)
    assert generate(store, requests, adaptation=renamed, load=never).reused


def test_a_greedy_baseline_is_shared_by_all_seeds_and_a_sampled_one_is_not(store: Store) -> None:
    prompts = some_prompts(3)
    by_seed = [replace(evaluation("corrected"), seed=seed).requests(prompts) for seed in (15, 16)]
    generate(store, by_seed[0])
    assert generate(store, by_seed[1], load=never).reused
    generate(store, by_seed[0], SAMPLED)
    assert not generate(store, by_seed[1], SAMPLED).reused


def test_an_interrupted_generation_goes_on_without_redoing_a_batch(store: Store, tmp_path: Path) -> None:
    sampled = replace(evaluation("corrected", decoding=SAMPLED), samples=2)
    requests = sampled.requests(some_prompts(3))
    rows: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        generate(store, requests, SAMPLED, engine=CountingEngine(rows, fail_after=2))
    assert len(rows) == 4
    outcome = generate(store, requests, SAMPLED, engine=CountingEngine(rows))
    assert sorted(rows) == sorted(f"{r.prompt.problem_id}/{r.sample}" for r in requests)
    whole = generate(Store(tmp_path / "other"), requests, SAMPLED)
    frames = [pd.read_parquet(o.stage.path / "completions.parquet") for o in (outcome, whole)]
    pd.testing.assert_frame_equal(*frames)
    assert list(zip(frames[0]["problem_id"], frames[0]["sample"], strict=True)) == [
        (r.prompt.problem_id, r.sample) for r in requests
    ]


def test_a_damaged_batch_of_an_interrupted_generation_is_named(store: Store) -> None:
    requests = requests_of(some_prompts(5))
    with pytest.raises(KeyboardInterrupt):
        generate(store, requests, engine=CountingEngine([], fail_after=1))
    (batch,) = store.root.rglob("batch_*.json")
    batch.write_text(batch.read_text()[:-30])
    with pytest.raises(UserError, match=r"batch_00000\.json is damaged"):
        generate(store, requests)


def test_the_prompts_are_kept_with_the_completions(store: Store) -> None:
    prompts = some_prompts(3)
    folder = generate(store, requests_of(prompts)).stage.path
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    assert rows == [{"problem_id": p.problem_id, "tokens": len(p.token_ids), "text": p.text} for p in prompts]


def test_a_better_grader_grades_again_what_was_generated_once(store: Store) -> None:
    prompts = some_prompts(3)
    generated = generate(store, requests_of(prompts))
    texts = pd.read_parquet(generated.stage.path / "completions.parquet").set_index("problem_id")["text"]
    problems = [
        Problem(p.problem_id, f"question {p.problem_id}", texts[p.problem_id] if n else "?", "t")
        for n, p in enumerate(prompts)
    ]
    first = grade(store, generated.stage, problems, ExactGrader(), dict)
    samples = pd.read_parquet(first.stage.path / "samples.parquet")
    assert list(samples["correct"]) == [False, True, True]
    assert list(samples["question"]) == [p.question for p in problems]
    assert json.loads((first.stage.path / "metrics.json").read_text())["accuracy"] == pytest.approx(2 / 3)
    wanted = {
        "problem_id", "sample", "question", "gold", "text", "answer", "correct", "flag", "finish_reason", "tokens",
        "mean_entropy", "boxed", "repetition",
    }  # fmt: skip
    assert wanted <= set(samples.columns)
    assert grade(store, generated.stage, problems, ExactGrader(), dict).reused
    assert not grade(store, generated.stage, problems, ExactGrader(version=2), dict).reused
    other_gold = [replace(problems[0], gold="!"), *problems[1:]]
    assert not grade(store, generated.stage, other_gold, ExactGrader(), dict).reused
