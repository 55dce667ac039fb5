"""The loop: AdamW's steps, the course of a run, what stops it, and which vector it reports."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import WIDTH, recipe, some_prompts, tiny_lm
from torch import Tensor

from ttsv import optimize as module
from ttsv import trainables
from ttsv.adaptations import EmbeddingPrefix
from ttsv.checkpoints import CHECKPOINT, Checkpoints, kept
from ttsv.engines.hf import HFEngine
from ttsv.optimization import Optimization, Seeds, learning_rate_factor, rows_of_update
from ttsv.optimize import Result, optimize
from ttsv.records import UserError
from ttsv.rollouts import rollouts
from ttsv.soft_prompt import initialize, load_soft_prompt
from ttsv.trainables import SharedPrefix

SEEDS = Seeds(15, 16, 17)
FIELDS = {
    "update",
    "epoch",
    "entropy",
    "gradient_norm",
    "distance",
    "relative_distance",
    "learning_rate",
    "staleness",
    "response_length",
    "response_tokens",
    "cap_hit_rate",
    "boxed_rate",
    "repetition",
    "distinct_responses",
    "prompt_tokens",
    "seconds_rollout",
    "seconds_loss",
}


def run(
    folder: Path, options: Optimization, seeds: Seeds = SEEDS, prompts: int = 4, every: int = 1, **model: Any
) -> Result:
    lm, chosen = tiny_lm(**model), some_prompts(prompts)
    start = initialize(options.initialization, options.length, lm, seeds.initialization, chosen)
    return optimize(lm, chosen, SharedPrefix(start), options, seeds, HFEngine(), Checkpoints(folder), every)


def vectors_of(result: Result) -> Tensor:
    assert isinstance(result.adaptation, EmbeddingPrefix)
    return result.adaptation.soft_prompt.vectors


def kept_at(folder: Path, update: int) -> Tensor:
    return load_soft_prompt(kept(folder, update)).vectors


def with_gradient(monkeypatch: pytest.MonkeyPatch, gradient: Callable[[Tensor], Tensor]) -> None:
    """Let the loss's gradient be a function of the vectors alone."""

    def fake(lm: Any, vectors: Tensor, *rest: Any) -> tuple[float, Tensor]:
        found = gradient(vectors)
        return float(found.sum()), found

    monkeypatch.setattr(trainables, "entropy_gradient", fake)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 1e-2, "learning_rate_unit": "absolute"},
        {"learning_rate": 0.5, "learning_rate_unit": "initial_rms", "weight_decay": 0.1, "adam_eps": 1e-2},
        {"learning_rate": 1e-2, "learning_rate_unit": "absolute", "clip_norm": 0.5},
        {"learning_rate": 1e-2, "updates": None, "epochs": 4, "schedule": "constant_within_epoch", "batch_size": 2},
    ],
)
def test_steps_are_those_of_torchs_adamw_under_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    options = recipe("corrected", **{"updates": 8, "batch_size": 4, **changes})
    with_gradient(monkeypatch, lambda vectors: torch.sin(3 * vectors) + vectors**2)
    got = run(tmp_path, options)

    start = initialize(options.initialization, options.length, tiny_lm(), SEEDS.initialization)
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([parameter], lr=1.0, eps=options.adam_eps, weight_decay=options.weight_decay)
    unit = float(start.pow(2).mean().sqrt()) if options.learning_rate_unit == "initial_rms" else 1.0
    for update in range(8):
        optimizer.param_groups[0]["lr"] = options.learning_rate * unit * learning_rate_factor(options, 4, update)
        parameter.grad = torch.sin(3 * parameter.detach()) + parameter.detach() ** 2
        if options.clip_norm:
            torch.nn.utils.clip_grad_norm_([parameter], options.clip_norm)
        optimizer.step()
    torch.testing.assert_close(vectors_of(got), parameter.detach(), rtol=0, atol=0)
    assert got.history[-1]["distance"] == pytest.approx(float((parameter.detach() - start).norm()))


def test_a_history_row_has_every_field_and_they_are_right(tmp_path: Path) -> None:
    options = recipe("corrected", updates=3, batch_size=3)
    result = run(tmp_path, options, prompts=5)
    assert [row["update"] for row in result.history] == [1, 2, 3]
    assert [row["epoch"] for row in result.history] == [0, 0, 1]
    for row in result.history:
        assert set(row) == FIELDS
        assert row["response_tokens"] == pytest.approx(row["response_length"] * (2 if row["update"] == 2 else 3))
        assert 0 <= row["cap_hit_rate"] <= 1
        assert row["response_length"] <= options.rollout.max_new_tokens
        assert row["seconds_rollout"] > 0
    assert result.reported_update == 3
    assert result.note is None


@pytest.mark.parametrize("name", ["paper", "corrected"])
def test_entropy_falls_when_it_is_minimised(tmp_path: Path, name: str) -> None:
    changes = {"epochs": 20} if name == "paper" else {"updates": 20, "batch_size": 4}
    options = recipe(name, **{**changes, "learning_rate": 0.3, "learning_rate_unit": "absolute"})
    entropies = [row["entropy"] for row in run(tmp_path, options).history]
    assert sum(entropies[-5:]) < 0.95 * sum(entropies[:5])


def test_seeds_are_separate(tmp_path: Path) -> None:
    def course(number: int, seeds: Seeds) -> tuple[Tensor, list[Any]]:
        folder = tmp_path / str(number)
        folder.mkdir()
        result = run(folder, recipe("corrected", updates=2, batch_size=2), seeds)
        return kept_at(folder, 0), [row["prompt_tokens"] for row in result.history] + [vectors_of(result)]

    same, again, initial, order, rollout = (
        course(n, seeds)
        for n, seeds in enumerate([SEEDS, SEEDS, Seeds(99, 16, 17), Seeds(15, 99, 17), Seeds(15, 16, 99)])
    )
    assert torch.equal(same[1][-1], again[1][-1])
    assert not torch.equal(same[0], initial[0])
    assert torch.equal(same[0], order[0])
    assert torch.equal(same[0], rollout[0])
    assert same[1][:-1] == initial[1][:-1] == rollout[1][:-1]
    assert same[1][:-1] != order[1][:-1]
    assert not torch.equal(same[1][-1], rollout[1][-1])


def test_rollouts_drawn_at_once_are_those_of_the_vector_before_the_first_of_their_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = recipe("corrected", updates=5, batch_size=3, rollout_updates=2, save_every=1, learning_rate=3.0)
    taken: list[list[Sequence[int]]] = []
    whole = trainables.entropy_gradient

    def noting(lm: Any, vectors: Tensor, prompts: Any, responses: Any, *rest: Any) -> Any:
        taken.append(list(responses))
        return whole(lm, vectors, prompts, responses, *rest)

    monkeypatch.setattr(trainables, "entropy_gradient", noting)
    result = run(tmp_path, options)
    assert [row["staleness"] for row in result.history] == [0, 1, 0, 1, 0]

    def drawn(update: int, at: int) -> list[Sequence[int]]:
        chosen = [some_prompts(4)[i] for i in rows_of_update(options, 4, update, SEEDS.order)]
        vector = EmbeddingPrefix(load_soft_prompt(kept(tmp_path, at)))
        (responses,) = rollouts(tiny_lm(), [((SEEDS.rollout, update), chosen)], vector, options, HFEngine())
        return [r.token_ids for r in responses]

    assert taken == [drawn(update, update - update % 2) for update in range(5)]
    assert taken[1] != drawn(1, 1)


def test_an_option_that_changes_nothing_is_no_part_of_a_key() -> None:
    assert "rollout_updates" not in recipe("paper").key()
    assert recipe("paper", rollout_updates=4).key() == recipe("paper").key() | {"rollout_updates": 4}


@pytest.mark.parametrize("every", [1, 3, 100])
@pytest.mark.parametrize("at_once", [1, 3])
def test_how_often_the_state_is_kept_changes_nothing(
    tmp_path: Path, every: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = recipe("corrected", updates=7, batch_size=2, rollout_updates=at_once)
    (tmp_path / "whole").mkdir()
    expected = vectors_of(run(tmp_path / "whole", options))

    class StoppedError(Exception):
        pass

    calls = iter(range(100))
    whole = module._one_update

    def stop_at_five(*arguments: Any) -> None:
        if next(calls) == 5:
            raise StoppedError
        whole(*arguments)

    (tmp_path / "stopped").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(module, "_one_update", stop_at_five)
        with pytest.raises(StoppedError):
            run(tmp_path / "stopped", options, every=every)
    state = Checkpoints(tmp_path / "stopped").load()
    assert (state.update if state else 0) == {1: 5, 3: 3, 100: 0}[every]
    assert torch.equal(vectors_of(run(tmp_path / "stopped", options, every=every)), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_with_the_last_good_vector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    options = recipe("corrected", updates=6, batch_size=4, save_every=1)
    calls = iter(range(100))
    with_gradient(monkeypatch, lambda vectors: vectors * (bad if next(calls) >= 3 else 1.0))
    result = run(tmp_path, options)
    assert result.note is not None
    assert "diverged" in result.note
    assert "update 4" in result.note
    assert result.reported_update == 3
    assert len(result.history) == 3
    assert torch.equal(vectors_of(result), kept_at(tmp_path, 3))
    assert bool(vectors_of(result).isfinite().all())
    again = run(tmp_path, options)
    assert torch.equal(vectors_of(again), vectors_of(result))
    assert again.note == result.note


def test_an_exploding_norm_stops_with_the_last_good_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = recipe("corrected", updates=6, batch_size=4, learning_rate=1e6, learning_rate_unit="absolute")
    calls = iter(range(100))
    with_gradient(
        monkeypatch, lambda vectors: torch.zeros_like(vectors) if next(calls) < 2 else torch.ones_like(vectors)
    )
    result = run(tmp_path, options)
    assert result.note is not None
    assert "norm of the values reached" in result.note
    assert result.reported_update == 2
    assert torch.equal(vectors_of(result), kept_at(tmp_path, 0))


def collapse_at(monkeypatch: pytest.MonkeyPatch, update: int) -> None:
    monkeypatch.setattr(module, "detect", lambda history: "length: short" if len(history) >= update else None)


@pytest.mark.parametrize(
    ("save_every", "seen_at", "at_once", "reported"),
    [(1, 11, 1, 3), (2, 11, 1, 2), (4, 14, 1, 4), (4, 8, 1, 0), (1, 11, 3, 1)],
)
def test_before_collapse_reports_a_saved_vector_from_before_it_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every: int, seen_at: int, at_once: int, reported: int
) -> None:
    collapse_at(monkeypatch, seen_at)
    with_gradient(monkeypatch, torch.sin)
    result = run(
        tmp_path, recipe("corrected", updates=16, batch_size=4, save_every=save_every, rollout_updates=at_once)
    )
    assert result.reported_update == reported
    assert torch.equal(vectors_of(result), kept_at(tmp_path, reported))
    assert result.note == f"collapsed (length: short) at update {seen_at}; that of update {reported} is reported"
    assert len(result.history) == 16


def test_last_reports_the_last_vector_and_names_the_collapse_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collapse_at(monkeypatch, 9)
    with_gradient(monkeypatch, torch.sin)
    result = run(tmp_path, recipe("corrected", updates=12, batch_size=4, reported="last"))
    assert (result.reported_update, result.note) == (12, "collapsed (length: short) at update 9")
    assert torch.equal(vectors_of(result), kept_at(tmp_path, 12))


def test_vectors_are_kept_every_so_many_updates_and_at_the_end(tmp_path: Path) -> None:
    run(tmp_path, recipe("corrected", updates=5, batch_size=4, save_every=2))
    kept = sorted(p.stem for p in (tmp_path / "kept").glob("*.safetensors"))
    assert kept == ["update_00000", "update_00002", "update_00004", "update_00005"]
    assert kept_at(tmp_path, 0).shape == (3, WIDTH)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    options = recipe("corrected", updates=2, batch_size=4)
    run(tmp_path, options)
    file = tmp_path / CHECKPOINT
    for content in (file.read_bytes()[:-50], b"", file.read_bytes().replace(b'\\"update\\"', b'\\"updote\\"')):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"checkpoint\.safetensors is damaged"):
            run(tmp_path, options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_vector_stays_in_fp32_whatever_the_model_computes_in(tmp_path: Path, dtype: torch.dtype) -> None:
    result = run(tmp_path, recipe("corrected", updates=2, batch_size=4), dtype=dtype)
    assert vectors_of(result).dtype == torch.float32
    assert not torch.equal(vectors_of(result), vectors_of(result).to(torch.bfloat16).float())


def test_a_gradient_that_is_not_finite_at_the_very_first_update_reports_the_initial_vector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gradient(monkeypatch, lambda vectors: vectors * float("nan"))
    result = run(tmp_path, recipe("corrected", updates=3, batch_size=4))
    assert result.note is not None
    assert "diverged" in result.note
    assert result.reported_update == 0
    assert torch.equal(vectors_of(result), kept_at(tmp_path, 0))
