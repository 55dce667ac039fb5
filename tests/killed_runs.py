"""A small run that can be killed at a chosen write, in a process of its own: what the tests of interruption drive."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401  # imported once by the server, not by every attempt
import torch
from tiny_models import evaluation, recipe, some_prompts, tiny_lm

from ttsv import stages
from ttsv.engines.hf import HFEngine
from ttsv.methods.base import Setting
from ttsv.methods.ttsv import TTSV
from ttsv.models import LanguageModel
from ttsv.optimization import Seeds
from ttsv.sampling import Sampling
from ttsv.store import Store


def kill_at_write(number: int) -> None:
    """Send this process SIGKILL in the middle of its ``number``-th atomic write, before anything of it is in place."""
    whole, count = os.fsync, iter(range(1, 10**9))

    def fsync(descriptor: int) -> None:
        whole(descriptor)
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync


def run(results: str, recipe_name: str, kill_at: int | None) -> None:
    """Adapt and generate into ``results``; killed at a write if ``kill_at`` says so."""
    torch.set_num_threads(1)
    lm = tiny_lm("qwen2")
    if kill_at is not None:
        kill_at_write(kill_at)
    adapt_and_generate(lm, results, recipe_name)


def adapt_and_generate(lm: LanguageModel, results: str, recipe_name: str) -> None:
    """Adapt on five prompts and generate twice for each."""
    prompts, store = some_prompts(5), Store(Path(results))
    name, _, at_once = recipe_name.partition(", rollouts at once: ")
    budget: dict[str, Any] = {"epochs": 4} if name == "paper" else {"updates": 8, "batch_size": 3}
    budget["rollout_updates"] = int(at_once or 1)
    setting = Setting(recipe(name, **budget), Seeds(1, 2, 3), prompts, {}, "prompts", HFEngine(), {})
    adapted = stages.adapt(store, TTSV(), setting, lambda: lm, dict)
    decoding = replace(
        evaluation("corrected").decoding, sampling=Sampling(8, temperature=1.0), batch_size=2, sort_by_length=True
    )
    sampled = evaluation("corrected", decoding=decoding, samples=2)
    stages.generate(
        store,
        "tiny",
        sampled.requests(prompts),
        stages.read_adaptation(adapted.stage.path),
        sampled.resolved(lm.generation_config),
        HFEngine(),
        {},
        lambda: lm,
        dict,
    )
