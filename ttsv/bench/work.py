"""One process of the benchmark: ``python -m ttsv.bench.work SIDE 'JSON'`` loads the model, does the work, prints a JSON line a stage."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from ttsv.bench import cost, ours, reference
from ttsv.bench.usage import Usage, measured, resident
from ttsv.config import component
from ttsv.engines.base import Decoding, resolve
from ttsv.evaluation import Evaluation
from ttsv.machine import measure
from ttsv.models import LanguageModel, open_source, resolve_device, resolve_dtype
from ttsv.optimization import Optimization
from ttsv.prompts import render_prompts
from ttsv.records import Prompt
from ttsv.sampling import uniforms
from ttsv.store import digest

Side = Literal["reference", "ours"]
CONF = Path(__file__).resolve().parents[2] / "conf"
AT_ONCE = "rollout at once"
"""The stage of rollouts that were drawn for several updates at once; its times are those of one update."""

NEVER = -1
"""An end token that no model writes: all responses then have the same length."""


@dataclass(frozen=True)
class Workload:
    """What a process computes: updates of ``rows`` x ``response`` tokens, or the evaluation of ``problems`` with ``cap`` new tokens.

    ``settings`` are overrides of the config; ``data_dir`` holds MATH500, without it problems are generated. ``prompt`` and ``vocabulary``
    replace the prompts by random ones of that length and the vocabulary by its first tokens. Where ``at_once`` is more than 1, our side
    also draws the rollouts of so many updates on these prompts at once.
    """

    stage: Literal["update", "evaluation"]
    settings: tuple[str, ...] = ()
    data_dir: str | None = None
    dtype: str = "auto"
    rows: int = 8
    response: int = 128
    length: int = 20
    prompt: int | None = None
    vocabulary: int | None = None
    at_once: int = 1
    problems: int = 32
    cap: int = 128
    batch: int = 64


class Bench:
    """The model in memory and what is done with it."""

    def __init__(self, work: Workload) -> None:
        task = "math500" if work.data_dir else "gym_mix"
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            self.config = compose("config", [f"task={task}", "recipe=paper", "scale=full", *work.settings])
            self.corrected = compose("config", [f"task={task}", "recipe=corrected", "scale=full", *work.settings])
        self.data_dir = Path(work.data_dir) if work.data_dir else None
        self.device = resolve_device(self.config.device)
        dtype = resolve_dtype(work.dtype, self.device)
        self.machine = measure(self.device, dtype)
        self.lm: LanguageModel = open_source(component(self.config.model, "model")).load(dtype, self.device)
        self.loaded = resident(self.device)

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The task's prompts, in its order."""
        problems = component(self.config.task, "task").load(self.data_dir)
        return render_prompts(
            problems, component(self.config.prompt, "prompt"), self.lm.tokenizer, 2048, "truncate_right"
        )

    def random_ids(self, rows: int, width: int, name: str) -> list[list[int]]:
        """Return ordinary token ids, the same on both sides."""
        special = set(self.lm.tokenizer.all_special_ids) | set(self.lm.tokenizer.added_tokens_decoder)
        ordinary = np.array([i for i in range(self.lm.token_embeddings.shape[0]) if i not in special])
        drawn = uniforms(rows * width, "benchmark", name).reshape(rows, width)
        found: list[list[int]] = ordinary[(drawn * len(ordinary)).astype(int)].tolist()
        return found

    def vectors(self, length: int) -> Tensor:
        """Return the recipe's untrained vectors (L, d)."""
        return torch.randn(length, self.lm.hidden_size, generator=torch.Generator().manual_seed(15))

    def run(self, side: Side, work: Workload) -> list[dict[str, Any]]:
        """Do the work of one side and return a record a stage."""
        rows = self.updates(side, work) if work.stage == "update" else self.evaluation(side, work)
        rates = {"gflops": self.machine.flops / 1e9, "gbytes": self.machine.bandwidth / 1e9}
        sizes = {name: value for name, value in asdict(work).items() if name != "data_dir"}
        shared = {
            "side": side,
            "model": self.lm.name,
            "task": self.config.task.name,
            **sizes,
            "dtype": str(self.lm.dtype),
        }
        shared |= {"card": self.machine.name, **rates}
        return [{**shared, **row} for row in rows]

    def updates(self, side: Side, work: Workload) -> list[dict[str, Any]]:
        """Measure the rollouts and the loss step of an update; the loss is that of the same random responses on both sides."""
        lm = self.lm
        self._shape(work)
        prompts = self._prompts(work)
        responses = self.random_ids(work.rows, work.response, "responses")
        options = self._options(work)
        vectors, sampling = self.vectors(work.length), resolve(options.rollout, lm.generation_config)
        stops = self._rules("paper").decoding.stopping.batch_strings
        options = replace(options, rollout=sampling)
        step = partial(ours.loss, lm, prompts, responses, vectors, options)
        if side == "reference":
            step = partial(reference.loss, lm, prompts, responses, vectors)
        # On CUDA kernels are loaded when they are first used, which takes longer than the work itself.
        cuda = self.device.type == "cuda"
        few = replace(options, rollout=replace(sampling, max_new_tokens=8 if cuda else 2))
        self._roll(side, prompts if cuda else prompts[:1], vectors, few, stops)
        if cuda:
            step()
        with measured(self.device, self.loaded) as rolled:
            written = self._roll(side, prompts, vectors, options, stops)
        assert {len(ids) for ids in written} == {work.response}
        several: list[dict[str, Any]] = []
        if side == "ours" and work.at_once > 1:
            several = [self._at_once(prompts, vectors, replace(options, rollout_updates=work.at_once))]
        with measured(self.device, self.loaded) as stepped:
            value, gradient = step()
        lengths = [len(p.token_ids) for p in prompts]
        sizes = (lm, lengths, work.length, work.response, self.machine)
        shared = {"tokens": work.rows * work.response, "prompt_tokens": sum(lengths)}
        result = {"value": value, "gradient_norm": float(gradient.norm())}
        return [
            record("rollout", rolled, {**shared, "attainable": cost.attainable_rollout(*sizes)}),
            record("loss", stepped, {**shared, "attainable": cost.attainable_loss(*sizes), **result}),
            *[row | shared for row in several],
        ]

    def _at_once(self, prompts: Sequence[Prompt], vectors: Tensor, options: Optimization) -> dict[str, Any]:
        """Measure the rollouts of several updates at once, all on these prompts; the record says what one of the updates took."""
        updates, response = options.rollout_updates, options.rollout.max_new_tokens
        with measured(self.device, self.loaded) as rolled:
            written = ours.rollout(self.lm, prompts, vectors, options)
        assert [len(ids) for ids in written] == [response] * len(prompts) * updates
        lengths = [len(p.token_ids) for p in prompts] * updates
        attainable = cost.attainable_rollout(self.lm, lengths, len(vectors), response, self.machine) / updates
        return record(AT_ONCE, rolled.shared_by(updates), {"attainable": attainable})

    def evaluation(self, side: Side, work: Workload) -> list[dict[str, Any]]:
        """Measure greedy evaluation under the released rules, and on our side also under those of ``corrected``."""
        prompts, vectors = self.prompts[: work.problems], self.vectors(work.length)
        if self.device.type == "cuda":
            self._evaluated(side, prompts, vectors, self._decoding("paper", work, 8))
        rows = []
        for name in ("paper",) if side == "reference" else ("paper", "corrected"):
            with measured(self.device, self.loaded) as used:
                texts = self._evaluated(side, prompts, vectors, self._decoding(name, work, work.cap))
            rows.append(
                record(
                    f"evaluation {name}",
                    used,
                    {"tokens": None, "digests": " ".join(digest(text)[:12] for text in texts)},
                )
            )
        return rows

    def _decoding(self, recipe: str, work: Workload, cap: int) -> Decoding:
        rules = self._rules(recipe).decoding
        rules = replace(rules, sampling=replace(rules.sampling, max_new_tokens=cap, temperature=0.0))
        return replace(rules, batch_size=work.batch) if recipe == "paper" else rules

    def _evaluated(self, side: Side, prompts: Sequence[Prompt], vectors: Tensor, rules: Decoding) -> list[str]:
        if side == "ours":
            return ours.evaluate(self.lm, prompts, vectors, rules)
        cap, stops = rules.sampling.max_new_tokens, rules.stopping.batch_strings
        return reference.evaluate(self.lm, prompts, vectors, cap, rules.batch_size, stops)

    def _shape(self, work: Workload) -> None:
        """Let nothing end a response, and cut the vocabulary where the work says so."""
        self.lm.model.generation_config.eos_token_id = NEVER
        self.lm.__dict__.pop("eos_ids", None)
        if work.vocabulary:
            self.lm.model.resize_token_embeddings(work.vocabulary)

    def _prompts(self, work: Workload) -> list[Prompt]:
        if not work.prompt:
            return self.prompts[: work.rows]
        ids = self.random_ids(work.rows, work.prompt, "prompts")
        return [Prompt(f"p{i}", "", tuple(row)) for i, row in enumerate(ids)]

    def _roll(
        self, side: Side, prompts: Sequence[Prompt], vectors: Tensor, options: Optimization, stops: Sequence[str]
    ) -> list[list[int]]:
        if side == "reference":
            return reference.rollout(self.lm, prompts, vectors, options.rollout, stops)
        return ours.rollout(self.lm, prompts, vectors, options)

    def _options(self, work: Workload) -> Optimization:
        options: Optimization = component(self.config.recipe.optimization, "recipe.optimization")
        rollout = replace(options.rollout, max_new_tokens=work.response)
        shard = min(options.shard_size or work.rows, work.rows)
        return replace(options, length=work.length, batch_size=work.rows, shard_size=shard, rollout=rollout)

    def _rules(self, recipe: str) -> Evaluation:
        config = self.config if recipe == "paper" else self.corrected
        found: Evaluation = component(config.recipe.evaluation, "recipe.evaluation")
        return found


def record(stage: str, used: Usage, more: dict[str, Any]) -> dict[str, Any]:
    """Return one measurement as a JSON-able row; it replaces the workload's own ``stage``."""
    return {"stage": stage, **asdict(used), **more}


def main() -> int:
    """Read the side and a list of workloads, and print a JSON line for each measured stage."""
    side, plan = sys.argv[1], [Workload(**work) for work in json.loads(sys.argv[2])]
    if side not in ("reference", "ours"):
        raise SystemExit(f"unknown side {side!r}; expected reference or ours")
    bench = Bench(plan[0])
    for work in plan:
        for row in bench.run("reference" if side == "reference" else "ours", work):
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
