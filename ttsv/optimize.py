"""The optimisation of a soft prompt: rollouts from the current vector, then one step down the entropy of those rollouts.

One loop serves both recipes; :class:`ttsv.optimization.Optimization` names every way in which they differ.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ttsv.adaptations import EmbeddingPrefix
from ttsv.collapse import detect, repetition
from ttsv.engines.base import Decoding, Engine, Request, Stopping
from ttsv.loss import entropy_gradient
from ttsv.models import LanguageModel
from ttsv.optimization import Optimization, Seeds, learning_rate_factor, rows_of_update
from ttsv.progress import bar
from ttsv.records import Completion, Prompt, UserError
from ttsv.soft_prompt import SoftPrompt, initialize, load_soft_prompt
from ttsv.store import UNFINISHED, digest, write_atomically

log = logging.getLogger(__name__)

CHECKPOINT = f"{UNFINISHED}/checkpoint.safetensors"
DIVERGED_GROWTH = 1000.0
"""A vector this many times its initial norm has left every useful region."""


@dataclass
class State:
    """Everything that the rest of a run depends on: vectors (L, d) with AdamW's two moments, and the history so far."""

    initial: Tensor
    vectors: Tensor
    first_moment: Tensor
    second_moment: Tensor
    update: int
    history: list[dict[str, Any]]
    diverged: str | None = None
    collapsed: str | None = None
    collapsed_at: int | None = None


@dataclass(frozen=True)
class Result:
    """The reported vectors (L, d), the update they are from, and the course of the run; ``note`` names what went wrong, if anything."""

    vectors: Tensor
    reported_update: int
    history: list[dict[str, Any]]
    note: str | None


@dataclass(frozen=True)
class Checkpoints:
    """Where a run's state and its saved vectors lie: :data:`CHECKPOINT`, and ``vectors/update_N.safetensors``, which stay."""

    folder: Path

    def save(self, state: State) -> None:
        """Replace the checkpoint, atomically."""
        tensors = {
            name: getattr(state, name).contiguous() for name in ("initial", "vectors", "first_moment", "second_moment")
        }
        rest = {name: getattr(state, name) for name in ("update", "history", "diverged", "collapsed", "collapsed_at")}
        (self.folder / CHECKPOINT).parent.mkdir(exist_ok=True)
        metadata = {"state": json.dumps(rest), "digest": _state_digest(tensors, json.dumps(rest))}
        write_atomically(self.folder / CHECKPOINT, save(tensors, metadata))

    def load(self) -> State | None:
        """Return the checkpoint's state, or None where the run has not got to one."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
            if _state_digest(tensors, metadata["state"]) != metadata["digest"]:
                raise ValueError("its content is not what was written")
            return State(**tensors, **json.loads(metadata["state"]))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}); delete {self.folder} and run the same command again"
            ) from error

    def save_vectors(self, state: State) -> None:
        """Keep the vectors of this update."""
        path = self._vectors(state.update)
        path.parent.mkdir(exist_ok=True)
        SoftPrompt(state.vectors, {"update": state.update}).save(path)

    def load_vectors(self, update: int) -> Tensor:
        """Return the vectors kept of an update."""
        return load_soft_prompt(self._vectors(update)).vectors

    def _vectors(self, update: int) -> Path:
        return self.folder / "vectors" / f"update_{update:05d}.safetensors"


def _state_digest(tensors: dict[str, Tensor], rest: str) -> str:
    return digest([rest, *(tensors[name].numpy().tobytes().hex() for name in sorted(tensors))])


def optimize(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    options: Optimization,
    seeds: Seeds,
    engine: Engine,
    checkpoints: Checkpoints,
    checkpoint_every: int = 1,
) -> Result:
    """Optimise one soft prompt on ``prompts``, going on from the last checkpoint if there is one.

    On a CPU an interrupted run ends with bit for bit the vectors of an uninterrupted one: all randomness is keyed by update and problem.
    A gradient or vector that is not finite, or a norm that explodes, stops the run with the last good vectors.
    """
    state = checkpoints.load() or _start(lm, prompts, options, seeds, checkpoints)
    total = options.total_updates(len(prompts))
    with bar(total, state.update, "optimise", "update") as shown:
        while state.update < total and state.diverged is None:
            _one_update(lm, prompts, options, seeds, engine, state)
            if state.diverged is None:
                if state.update % options.saves(len(prompts)) == 0 or state.update == total:
                    checkpoints.save_vectors(state)
                shown.set_postfix({key: f"{state.history[-1][key]:.3g}" for key in ("entropy", "response_length")})
                shown.update()
            if state.update % checkpoint_every == 0 or state.update == total or state.diverged:
                checkpoints.save(state)
    return _result(state, options, checkpoints, len(prompts))


def _start(
    lm: LanguageModel, prompts: Sequence[Prompt], options: Optimization, seeds: Seeds, checkpoints: Checkpoints
) -> State:
    vectors = initialize(
        options.initialization, options.length, lm, seeds.initialization, prompts, options.initialization_text
    )
    zeros = torch.zeros_like(vectors)
    state = State(vectors, vectors.clone(), zeros, zeros.clone(), 0, [])
    checkpoints.save_vectors(state)
    return state


def _one_update(
    lm: LanguageModel, prompts: Sequence[Prompt], options: Optimization, seeds: Seeds, engine: Engine, state: State
) -> None:
    """Draw rollouts, take the gradient of their entropy, step, and append a row to the history; or mark the state as diverged."""
    began = time.perf_counter()
    rows = rows_of_update(options, len(prompts), state.update, seeds.order)
    chosen = [prompts[i] for i in rows]
    responses = rollouts(lm, chosen, state.vectors, options, (seeds.rollout, state.update), engine)
    rolled = time.perf_counter()
    loss, gradient = entropy_gradient(lm, state.vectors, chosen, [r.token_ids for r in responses], options)
    norm = float(gradient.norm())
    if not (torch.isfinite(gradient).all() and torch.isfinite(torch.tensor(loss))):
        state.diverged = f"diverged: loss {loss} or gradient norm {norm} at update {state.update + 1} is not finite"
        log.warning("%s; the vectors of update %d are kept", state.diverged, state.update)
        return
    moved = _adamw_step(state, gradient, options, learning_rate(state.initial, options, len(prompts), state.update))
    if not torch.isfinite(moved.vectors).all() or moved.vectors.norm() > DIVERGED_GROWTH * state.initial.norm():
        state.diverged = (
            f"diverged: the vector's norm reached {float(moved.vectors.norm()):.3g} at update {state.update + 1}"
        )
        log.warning("%s; the vectors of update %d are kept", state.diverged, state.update)
        return
    state.vectors, state.first_moment, state.second_moment = moved.vectors, moved.first_moment, moved.second_moment
    state.update += 1
    state.history.append(
        {
            "update": state.update,
            "epoch": (state.update - 1) // options.updates_per_epoch(len(prompts)),
            "entropy": loss,
            "gradient_norm": norm,
            "distance": float((state.vectors - state.initial).norm()),
            "relative_distance": float((state.vectors - state.initial).norm() / state.initial.norm()),
            "learning_rate": learning_rate(state.initial, options, len(prompts), state.update - 1),
            **describe(responses),
            "prompt_tokens": sum(len(p.token_ids) for p in chosen) + len(chosen) * options.length,
            "seconds_rollout": rolled - began,
            "seconds_loss": time.perf_counter() - rolled,
        }
    )
    _watch(state)


def _watch(state: State) -> None:
    """Note the first collapse, while it happens."""
    if state.collapsed is None and (seen := detect(state.history)):
        state.collapsed, state.collapsed_at = seen, state.update
        log.warning("collapse at update %d: %s", state.update, seen)


def rollouts(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    vectors: Tensor,
    options: Optimization,
    stream: tuple[int, ...],
    engine: Engine,
) -> list[Completion]:
    """Return one sampled response per prompt; ``stream`` and the problem key the random numbers, a repeated row has its own."""
    counts: dict[str, int] = {}
    requests = []
    for prompt in prompts:
        sample = counts[prompt.problem_id] = counts.get(prompt.problem_id, -1) + 1
        requests.append(Request(prompt, sample, ("rollout", *stream, prompt.problem_id, sample)))
    decoding = Decoding(
        options.rollout,
        Stopping(options.rollout_end),
        options.layout.order,
        batch_size=len(prompts),
        sort_by_length=False,
    )
    found: dict[int, Completion] = {}
    for batch in engine.generate(lm, requests, EmbeddingPrefix(SoftPrompt(vectors)), decoding):
        found.update(batch)
    return [found[i] for i in range(len(requests))]


def describe(responses: Sequence[Completion]) -> dict[str, float]:
    """Return what an update's rollouts look like: lengths in tokens, shares of rows."""
    return {
        "response_length": fmean(len(r.token_ids) for r in responses),
        "response_tokens": sum(len(r.token_ids) for r in responses),
        "cap_hit_rate": fmean(r.finish_reason == "length" for r in responses),
        "boxed_rate": fmean("\\boxed" in r.text for r in responses),
        "repetition": fmean(repetition(r.token_ids) for r in responses),
        "distinct_responses": len({r.token_ids for r in responses}) / len(responses),
    }


def learning_rate(initial: Tensor, options: Optimization, problems: int, update: int) -> float:
    """Return the learning rate of an update; in units of the initial rows' RMS it is the same share of a row for any initialisation."""
    unit = float(initial.pow(2).mean().sqrt()) if options.learning_rate_unit == "initial_rms" else 1.0
    return options.learning_rate * unit * learning_rate_factor(options, problems, update)


def _adamw_step(state: State, gradient: Tensor, options: Optimization, rate: float) -> State:
    """Return the state after one step of ``torch.optim.AdamW`` (its defaults for beta)."""
    parameter = torch.nn.Parameter(state.vectors.clone())
    parameter.grad = gradient.to(parameter.device).clone()
    if options.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_([parameter], options.clip_norm)
    optimizer = torch.optim.AdamW([parameter], lr=rate, eps=options.adam_eps, weight_decay=options.weight_decay)
    optimizer.state[parameter] = {
        "step": torch.tensor(float(state.update)),
        "exp_avg": state.first_moment.clone(),
        "exp_avg_sq": state.second_moment.clone(),
    }
    optimizer.step()
    after = optimizer.state[parameter]
    return State(
        state.initial, parameter.detach(), after["exp_avg"], after["exp_avg_sq"], state.update + 1, state.history
    )


def _result(state: State, options: Optimization, checkpoints: Checkpoints, problems: int) -> Result:
    """Choose the reported vectors by the pre-declared rule and say what went wrong."""
    notes = [state.diverged] if state.diverged else []
    if state.collapsed:
        notes.append(f"collapsed ({state.collapsed}) at update {state.collapsed_at}")
    vectors, reported = state.vectors, state.update
    every = options.saves(problems)
    if options.reported == "before_collapse" and state.collapsed_at is not None:
        # The window that shows a collapse began 4 updates before it was seen; half as far again is clear of it.
        reported = max(0, state.collapsed_at - 8) // every * every
        vectors = checkpoints.load_vectors(reported)
        notes.append(f"the vector of update {reported} is reported")
    return Result(vectors, reported, state.history, "; ".join(notes) or None)
