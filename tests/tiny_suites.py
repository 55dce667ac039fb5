"""Studies of a control suite with known truth, as finished runs: every response drawn by hand from stated chances."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tiny_tables import finished_run

from ttsv.records import Problem
from ttsv.tasks.selection import halves

FACTS = {
    "model": "tiny",
    "task": "sums",
    "scale": "mini",
    "recipe": "corrected",
    "grader": "math_verify",
    "prompt": "release",
    "adapt_on": "all",
    "evaluation": "greedy",
    "conditions": "",
}
CAPS = (16, 32, 64, 96)


class Study:
    """A study's folder that fills with runs; ``ids`` are its problems, of three levels, ``folds`` the two halves of ``adapt_on``."""

    def __init__(self, results: Path, problems: int = 60, seed: int = 0) -> None:
        self.results, self.rng = results, np.random.default_rng(seed)
        self.ids = [f"p{number:03d}" for number in range(problems)]
        self.levels = [str(1 + number % 3) for number in range(problems)]
        made = [Problem(i, "", "", "", None, level) for i, level in zip(self.ids, self.levels, strict=True)]
        self.folds = dict(zip(("first_half", "second_half"), halves(made, 0), strict=True))
        self.runs: dict[Path, tuple[pd.DataFrame, pd.DataFrame | None]] = {}

    @property
    def folder(self) -> Path:
        return self.results / "runs" / "study"

    def run(
        self,
        method: str,
        chance: float | Mapping[str, float],
        seed: int = 15,
        samples: int = 1,
        misformed: float = 0.0,
        course: Any = (),
        details: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> pd.DataFrame:
        """Finish a run whose answers are right by ``chance`` (one, or one per problem id); right ones are unboxed by ``misformed``."""
        rows, reread = self.rows(chance, samples, misformed)
        whole = {**FACTS, **facts}
        file = finished_run(
            self.results,
            method,
            "",
            seed,
            rows=rows,
            reread=reread if samples == 1 else None,
            samples=samples,
            course=course,
            details=details,
            config=config,
            optimised=sorted(self.folds.get(whole["adapt_on"], ())),
            **whole,
        )
        self.runs[file] = rows, reread
        return rows

    def rows(
        self, chance: float | Mapping[str, float], samples: int, misformed: float
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Graded samples, and what rereading them gave."""
        rows, reread = [], []
        for problem, level in zip(self.ids, self.levels, strict=True):
            for sample in range(samples):
                known = self.rng.random() < (chance if isinstance(chance, float) else chance[problem])
                boxed = bool(self.rng.random() >= (misformed if known else 0.3))
                stopped = bool(self.rng.random() < 0.8)
                tokens = int(self.rng.integers(5, 90)) if stopped else 96
                right = bool(known and boxed)
                same = {"problem_id": problem, "sample": sample}
                rows.append(
                    {
                        **same,
                        "correct": right,
                        "answer": ("5" if known else str(self.rng.integers(6, 9))) if boxed else None,
                        "boxed": boxed,
                        "finish_reason": "stop" if stopped else "length",
                        "repetition": float(self.rng.random()),
                        "tokens": tokens,
                        "mean_entropy": float(self.rng.random()),
                        "flag": "ok" if boxed else "no_answer",
                        "text": "```python" if self.rng.random() < 0.5 else "so",
                        "level": level,
                        "subject": None,
                    }
                )
                for cap in CAPS:
                    whole = tokens <= cap
                    of_cap = {"reading": "cap", "cap": cap, "boxed": boxed and whole, "tokens": min(cap, tokens)}
                    reread.append({**same, **of_cap, "correct": right and whole, "truncated": not whole or not stopped})
                if not boxed:
                    of_last = {"reading": "last expression", "cap": 96, "boxed": True, "truncated": False, "tokens": 0}
                    reread.append({**same, **of_last, "correct": bool(known)})
        return pd.DataFrame(rows), pd.DataFrame(reread)

    def three_arms(
        self, none: float, untrained: float, trained: float, seeds: tuple[int, ...] = (15,), **facts: Any
    ) -> None:
        """The arms that every suite needs."""
        self.run("none", none, **facts)
        for seed in seeds:
            self.run("untrained_prefix", untrained, seed, **facts)
            self.run("ttsv", trained, seed, **facts)

    def halves(self, own: float, other: float, seeds: tuple[int, ...] = (15,)) -> None:
        """Vectors optimised on each half: right with chance ``own`` on the problems they saw, ``other`` elsewhere."""
        for seed in seeds:
            for name, half in self.folds.items():
                self.run("ttsv", {i: own if i in half else other for i in self.ids}, seed, adapt_on=name)
