"""Entry point: write the same completions with both engines, and say in ``vllm_parity.md`` where they differ and how fast each is."""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from ttsv.adaptations import EmbeddingPrefix
from ttsv.bench.parity_page import page
from ttsv.bench.work import CONF
from ttsv.config import component
from ttsv.engines.base import Decoding, Request
from ttsv.engines.hf import HFEngine
from ttsv.models import LanguageModel, open_source, resolve_device, resolve_dtype
from ttsv.placement import assemble
from ttsv.prompts import render_prompts
from ttsv.provenance import collect
from ttsv.records import Completion, Prompt, UserError
from ttsv.sampling import Sampling, uniforms
from ttsv.soft_prompt import SoftPrompt, initialize
from ttsv.store import write_atomically

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}
"""The gap of two logits below which they are a near-tie: for bf16 two steps of its resolution between 16 and 32."""

PREFIXES = ("none", "vocabulary", "standard_normal")
LENGTH, SEED = 20, 15


@dataclass(frozen=True)
class Case:
    """Prompts of one task, the prefix in front of them, and how tokens are chosen (temperature 0 or 1, nothing cut)."""

    task: str
    prefix: str
    temperature: float


class Parity:
    """The model in memory and both engines."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.config = self._config("one_digit_sums")
        device = resolve_device(self.config.device)
        source = open_source(component(self.config.model, "model"))
        self.lm: LanguageModel = source.load(resolve_dtype(chosen.dtype, device), device)
        self.engines: dict[str, Any] = {"hf": HFEngine(), "vllm": component(self.config.engine, "engine")}
        self.tolerance = TOLERANCE[str(self.lm.dtype).removeprefix("torch.")]
        self.prompts = {"one_digit_sums": self._prompts("one_digit_sums", chosen.sums)}
        if chosen.data_dir:
            self.prompts["math500"] = self._prompts("math500", chosen.problems)

    def _config(self, task: str) -> Any:
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            return compose("config", [f"task={task}", f"engine={self.chosen.engine}", *self.chosen.settings])

    def _prompts(self, task: str, count: int) -> list[Prompt]:
        config = self._config(task)
        folder = Path(self.chosen.data_dir) if task == "math500" else None
        problems = component(config.task, "task").load(folder)[:count]
        return render_prompts(problems, component(config.prompt, "prompt"), self.lm.tokenizer, 2048)

    def run(self) -> Iterator[list[dict[str, Any]]]:
        """Yield a row per problem, for each case in turn."""
        self._write("vllm", Case("one_digit_sums", "none", 0), self.prompts["one_digit_sums"][:1])  # starts it
        temperatures = [0.0, 1.0] if self.chosen.sampled else [0.0]
        for temperature, task, prefix in product(temperatures, self.prompts, self.chosen.prefixes):
            case, prompts = Case(task, prefix, temperature), self.prompts[task]
            written, times = {}, {}
            for name in self.engines:
                began = time.perf_counter()
                written[name] = self._write(name, case, prompts)
                times[f"seconds_{name}"] = time.perf_counter() - began
            yield [
                {**asdict(case), **times, **self._compare(case, prompt, ours, other)}
                for prompt, ours, other in zip(prompts, written["hf"], written["vllm"], strict=True)
            ]

    def facts(self) -> dict[str, Any]:
        """Return what the page says of code, machine and command."""
        chosen = self.chosen
        words = ["..." if word in (chosen.data_dir, str(chosen.results)) else word for word in sys.argv[1:]]
        return {
            **collect(self.lm.device),
            "command": " ".join(["python -m ttsv.bench.parity", *words]),
            "dtype": str(self.lm.dtype).removeprefix("torch."),
            "engine": self.engines["vllm"].provenance(),
            "load": os.getloadavg()[0],
            "cap": chosen.cap,
            "model": component(self.config.model, "model").name,
        }

    def _write(self, engine: str, case: Case, prompts: Sequence[Prompt]) -> list[Completion]:
        requests = [Request(prompt, 0, _stream(prompt)) for prompt in prompts]
        decoding = Decoding(Sampling(self.chosen.cap, temperature=case.temperature))
        vectors = self._vectors(case)
        adaptation = EmbeddingPrefix(SoftPrompt(vectors)) if len(vectors) else None
        found: dict[int, Completion] = {}
        for batch in self.engines[engine].generate(self.lm, requests, adaptation, decoding):
            found |= batch
        return [found[i] for i in range(len(prompts))]

    def _vectors(self, case: Case) -> Tensor:
        if case.prefix == "none":
            return torch.zeros(0, self.lm.hidden_size)
        return initialize("vocabulary" if case.prefix == "vocabulary" else "standard_normal", LENGTH, self.lm, SEED)

    def _compare(self, case: Case, prompt: Prompt, ours: Completion, other: Completion) -> dict[str, Any]:
        at = first_difference(ours.token_ids, other.token_ids)
        row = {
            "problem": prompt.problem_id,
            "tokens_hf": len(ours.token_ids),
            "tokens_vllm": len(other.token_ids),
            "first_difference": at,
            "gap": None,
            "entropy_difference": other.mean_entropy - ours.mean_entropy,
        }
        if at is not None:
            logits = self._logits(case, prompt, ours.token_ids[:at])
            chosen = (ours.token_ids[at], other.token_ids[at])
            if case.temperature == 0:
                row["gap"] = float(logits[chosen[0]] - logits[chosen[1]])
            else:
                row["gap"] = distance_to_interval(logits, chosen[1], float(uniforms(at + 1, *_stream(prompt))[at]))
        return row

    @torch.inference_mode()
    def _logits(self, case: Case, prompt: Prompt, response: Sequence[int]) -> Tensor:
        """Return the transformers model's logits (vocabulary,) behind a response, in fp32."""
        batch = assemble(self.lm, self._vectors(case), [prompt.token_ids], [response], "padding_prefix_prompt")
        output = self.lm.model(
            inputs_embeds=batch.embeddings, attention_mask=batch.attention, position_ids=batch.positions
        )
        found: Tensor = output.logits[0, -1].float()
        return found


def _stream(prompt: Prompt) -> tuple[int | str, ...]:
    return ("parity", SEED, prompt.problem_id)


def first_difference(ours: Sequence[int], other: Sequence[int]) -> int | None:
    """Return the first position at which two responses have different tokens, or None where they are identical.

    A response that is the other's beginning ends by an end token or at the common cap, so neither goes on past the other.
    """
    return next((i for i, (a, b) in enumerate(zip(ours, other, strict=False)) if a != b), None)


def distance_to_interval(logits: Tensor, token: int, uniform: float) -> float:
    """Return how far a random number in [0, 1) is from those for which ``token`` is drawn: what the probabilities must have moved by."""
    cumulative = logits.softmax(-1).double().cumsum(-1)
    high = float(cumulative[token])
    low = float(cumulative[token - 1]) if token else 0.0
    return max(low - uniform, uniform - high, 0.0)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        prog="python -m ttsv.bench.parity", description=(__doc__ or "").split(": ", 1)[1].replace("``", "")
    )
    made.add_argument("settings", nargs="*", help="overrides of the config: model=..., device=..., engine.python=...")
    made.add_argument("--engine", default="vllm", help="vllm or vllm_cpu (default: vllm)")
    made.add_argument("--data-dir", help="folder with math500/test.jsonl (default: one-digit sums alone)")
    made.add_argument("--sums", type=int, default=64, help="one-digit sums (default: 64)")
    made.add_argument("--problems", type=int, default=24, help="problems of MATH500 (default: 24)")
    made.add_argument("--cap", type=int, default=128, help="new tokens (default: 128)")
    made.add_argument(
        "--prefixes", nargs="+", choices=PREFIXES, default=PREFIXES[:2], help="20 rows (default: none, vocabulary)"
    )
    made.add_argument("--sampled", action="store_true", help="compare at temperature 1 as well")
    made.add_argument("--dtype", default="auto", help="float32, bfloat16, ... (default: the fastest that is safe)")
    made.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write ``vllm_parity.md`` and ``vllm_parity.csv`` anew after each case."""
    chosen = parser().parse_args(arguments)
    rows: list[dict[str, Any]] = []
    try:
        chosen.results.mkdir(parents=True, exist_ok=True)
        parity = Parity(chosen)
        for of_case in parity.run():
            rows += of_case
            frame = pd.DataFrame(rows)
            write_atomically(chosen.results / "vllm_parity.csv", frame.to_csv(index=False))
            write_atomically(chosen.results / "vllm_parity.md", page(frame, parity.facts(), parity.tolerance))
            print(f"{len(rows)} rows in {chosen.results / 'vllm_parity.md'}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
