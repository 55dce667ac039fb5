"""The optimisation: rollouts from the current values, then one step down the entropy of those rollouts.

One loop serves both recipes and all that may be moved: :class:`ttsv.optimization.Optimization` names every way in which the recipes
differ, :class:`ttsv.trainables.Trainable` what moves.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch

from ttsv import ranks
from ttsv.adaptations import Adaptation
from ttsv.checkpoints import Checkpoints, State, kept, norm
from ttsv.collapse import detect
from ttsv.engines.base import Engine
from ttsv.models import LanguageModel
from ttsv.optimization import Optimization, Seeds, learning_rate_factor, rows_of_update
from ttsv.progress import bar
from ttsv.records import Completion, Prompt
from ttsv.rollouts import describe, rollouts
from ttsv.trainables import Trainable, Values

log = logging.getLogger(__name__)

DIVERGED_GROWTH = 1000.0
"""Values this many times their initial norm have left every useful region."""


@dataclass(frozen=True)
class Result:
    """The reported adaptation, the update it is from, and the course of the run; ``note`` names what went wrong, if anything."""

    adaptation: Adaptation
    reported_update: int
    history: list[dict[str, Any]]
    note: str | None


@dataclass(frozen=True)
class _Task:
    """What stays the same from update to update."""

    lm: LanguageModel
    prompts: Sequence[Prompt]
    trainable: Trainable
    options: Optimization
    seeds: Seeds
    engine: Engine

    def rows(self, update: int) -> list[Prompt]:
        """Return the prompts of an update."""
        chosen = rows_of_update(self.options, len(self.prompts), update, self.seeds.order)
        return [self.prompts[i] for i in chosen]


def optimize(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    trainable: Trainable,
    options: Optimization,
    seeds: Seeds,
    engine: Engine,
    checkpoints: Checkpoints,
    checkpoint_every: int = 1,
    metadata: Mapping[str, Any] | None = None,
) -> Result:
    """Optimise on ``prompts``, going on from the last checkpoint if there is one.

    On a CPU an interrupted run ends with bit for bit the values of an uninterrupted one: all randomness is keyed by update and problem.
    A gradient that is not finite, or a norm that explodes, stops the run with the last good values. ``metadata`` goes into the reported
    adaptation's file.
    """
    task = _Task(lm, prompts, trainable, options, seeds, engine)
    state = checkpoints.load() or _start(lm, trainable, checkpoints)
    total = options.total_updates(len(prompts))
    with bar(total, state.update, "optimise", "update") as shown:
        while state.update < total and state.diverged is None:
            _one_update(task, state)
            if state.diverged is None:
                at_save = state.update % options.saves(len(prompts)) == 0 or state.update == total
                if trainable.keeps and at_save:
                    checkpoints.keep(_adaptation(trainable, state, {}), state.update)
                shown.set_postfix({key: f"{state.history[-1][key]:.3g}" for key in ("entropy", "response_length")})
                shown.update()
            if state.update % checkpoint_every == 0 or state.update == total or state.diverged:
                checkpoints.save(state)
    return _result(trainable, state, options, checkpoints, len(prompts), metadata or {})


def _start(lm: LanguageModel, trainable: Trainable, checkpoints: Checkpoints) -> State:
    initial = trainable.initial(lm)
    moments = [{name: torch.zeros_like(value) for name, value in initial.items()} for _ in range(2)]
    state = State(initial, {name: value.clone() for name, value in initial.items()}, moments[0], moments[1], 0, [])
    if trainable.keeps:
        checkpoints.keep(_adaptation(trainable, state, {}), 0)
    return state


def _adaptation(trainable: Trainable, state: State, metadata: Mapping[str, Any]) -> Adaptation:
    return trainable.adaptation(state.values, {**metadata, "update": state.update})


def _one_update(task: _Task, state: State) -> None:
    """Take the gradient of the rollouts' entropy, step, and append a row to the history; or mark the state as diverged.

    Rollouts are drawn where none are left: of ``rollout_updates`` updates at once, so that those of the last are as stale as that.
    """
    options, problems, began = task.options, len(task.prompts), time.perf_counter()
    if not state.pending:
        state.pending = _next_rollouts(task, state)
    rolled = time.perf_counter()
    chosen, responses = task.rows(state.update), state.pending.pop(0)
    loss, gradient = _gradient(task, chosen, state.values, [r.token_ids for r in responses])
    size = norm(gradient)
    rate = learning_rate(state.initial, options, problems, state.update)
    state.diverged = _step(state, loss, gradient, options, rate)
    if state.diverged:
        log.warning("%s; the values of update %d are kept", state.diverged, state.update)
        return
    state.update += 1
    distance = state.distance()
    state.history.append(
        {
            "update": state.update,
            "epoch": (state.update - 1) // options.updates_per_epoch(problems),
            "entropy": loss,
            "gradient_norm": size,
            "distance": distance,
            "relative_distance": distance / max(norm(state.initial), 1e-30),
            "learning_rate": rate,
            "staleness": (state.update - 1) % options.rollout_updates,
            **describe(responses),
            "prompt_tokens": sum(len(p.token_ids) for p in chosen) + len(chosen) * task.trainable.length,
            "seconds_rollout": rolled - began,
            "seconds_loss": time.perf_counter() - rolled,
        }
    )
    _watch(state)


def _next_rollouts(task: _Task, state: State) -> list[list[Completion]]:
    """Draw the responses of the next updates from the present values. They begin at a multiple of ``rollout_updates``."""
    last = min(state.update + task.options.rollout_updates, task.options.total_updates(len(task.prompts)))
    updates = [((task.seeds.rollout, n), task.rows(n)) for n in range(state.update, last)]
    return rollouts(task.lm, updates, _adaptation(task.trainable, state, {}), task.options, task.engine)


def _gradient(
    task: _Task, chosen: Sequence[Prompt], values: Values, responses: Sequence[Sequence[int]]
) -> tuple[float, Values]:
    """Return loss and gradient, a share of the rows from each process."""
    work = (task.lm, values, chosen, responses, task.options)
    parts = ranks.call(task.trainable.gradient, [(*work, share) for share in ranks.shares()])
    gradients = [gradient for _, gradient in parts]
    return sum(loss for loss, _ in parts), {
        name: reduce(torch.add, [g[name] for g in gradients]) for name in gradients[0]
    }


def _step(state: State, loss: float, gradient: Values, options: Optimization, rate: float) -> str | None:
    """Take one step of ``torch.optim.AdamW`` (its defaults for beta); or leave the values as they are and say why."""
    if not (math.isfinite(loss) and all(bool(g.isfinite().all()) for g in gradient.values())):
        return f"diverged: loss {loss} or gradient norm {norm(gradient)} at update {state.update + 1} is not finite"
    parameters = {name: torch.nn.Parameter(value.clone()) for name, value in state.values.items()}
    for name, parameter in parameters.items():
        parameter.grad = gradient[name]
    if options.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters.values(), options.clip_norm)
    optimizer = torch.optim.AdamW(parameters.values(), lr=rate, eps=options.adam_eps, weight_decay=options.weight_decay)
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(state.update)),
            "exp_avg": state.first_moment[name],
            "exp_avg_sq": state.second_moment[name],
        }
    optimizer.step()
    moved = {name: parameter.detach() for name, parameter in parameters.items()}
    size = norm(moved)
    if not math.isfinite(size) or size > DIVERGED_GROWTH * max(norm(state.initial), 1e-30):
        return f"diverged: the norm of the values reached {size:.3g} at update {state.update + 1}"
    state.values = moved
    state.first_moment = {name: optimizer.state[p]["exp_avg"] for name, p in parameters.items()}
    state.second_moment = {name: optimizer.state[p]["exp_avg_sq"] for name, p in parameters.items()}
    return None


def _watch(state: State) -> None:
    """Note the first collapse, while it happens."""
    if state.collapsed is None and (seen := detect(state.history)):
        state.collapsed, state.collapsed_at = seen, state.update
        log.warning("collapse at update %d: %s", state.update, seen)


def learning_rate(initial: Values, options: Optimization, problems: int, update: int) -> float:
    """Return the learning rate of an update; in units of the initial values' RMS it is the same share of a row for any initialisation."""
    unit = 1.0
    if options.learning_rate_unit == "initial_rms":
        unit = float(torch.cat([value.flatten() for value in initial.values()]).pow(2).mean().sqrt())
    return options.learning_rate * unit * learning_rate_factor(options, problems, update)


def _result(
    trainable: Trainable,
    state: State,
    options: Optimization,
    checkpoints: Checkpoints,
    problems: int,
    metadata: Mapping[str, Any],
) -> Result:
    """Choose what is reported by the pre-declared rule and say what went wrong."""
    notes = [state.diverged] if state.diverged else []
    if state.collapsed:
        notes.append(f"collapsed ({state.collapsed}) at update {state.collapsed_at}")
    adaptation, reported = _adaptation(trainable, state, metadata), state.update
    every = options.saves(problems)
    if options.reported == "before_collapse" and state.collapsed_at is not None and trainable.keeps:
        # The window that shows a collapse began 4 updates before it was seen, and stale rollouts show an earlier vector; half as far
        # again is clear of it.
        reported = max(0, state.collapsed_at - 8 - (options.rollout_updates - 1)) // every * every
        adaptation = type(adaptation).load(kept(checkpoints.folder, reported))
        notes.append(f"that of update {reported} is reported")
    return Result(adaptation, reported, state.history, "; ".join(notes) or None)
