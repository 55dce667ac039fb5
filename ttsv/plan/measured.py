"""What finished stages of the same model on the same kind of device took, over what the cost model says of them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import pandas as pd

from ttsv.cost import Seconds, Shape, Work, decoding_time, loss_time
from ttsv.grading import COMPLETIONS, METRICS
from ttsv.machine import Machine
from ttsv.methods.em import HOST_BYTES
from ttsv.stages import ADAPTATION, PROMPTS
from ttsv.store import MANIFEST, PROVENANCE
from ttsv.study import read_history

Kind = Literal["rollout", "loss", "evaluation"]


@dataclass(frozen=True)
class Measurement:
    """One finished stage: which prompts, which cap, and the factor on the cost model's time at that cap.

    A factor holds whatever the model leaves out: the share of the machine's rate that was reached, and responses that ended early.
    """

    kind: Kind
    moves_weights: bool
    prompts: str
    cap: int
    factor: float


@dataclass(frozen=True)
class Factors:
    """Measurements of one model on one kind of device."""

    measured: tuple[Measurement, ...]

    def of(self, kind: Kind, prompts: str, cap: int, moves_weights: bool = False) -> float:
        """Return the median factor of the stages most like the asked one: same prompts and cap, else any of the kind; 1 without any."""
        alike = [m for m in self.measured if m.kind == kind and m.moves_weights == moves_weights]
        same = [m.factor for m in alike if (m.prompts, m.cap) == (prompts, cap)]
        return median(same or [m.factor for m in alike] or [1.0])

    def of_step(self, work: Work, prompts: str, cap: int) -> Seconds:
        """Return the factors for a stage."""
        moves = work.host_bytes > 0
        return Seconds(
            self.of("rollout", prompts, work.cap, moves),
            self.of("loss", prompts, work.cap, moves),
            self.of("evaluation", prompts, cap),
        )


def factors(
    store: Path, fingerprint: str, models: tuple[Shape, Shape], machine: Machine, hardware: Mapping[str, Any]
) -> Factors:
    """Return what the finished stages below ``store`` say of a model on a machine.

    Args:
        store: the folder of stages.
        fingerprint: the model's, as in the stages' keys.
        models: its cost in the dtypes of optimisation and evaluation.
        machine: where the time is to be spent.
        hardware: what must be equal in a stage's provenance, a dotted key to a value or to a part of it.
    """
    found: list[Measurement] = []
    for kind, read in (("adapt", _adapted), ("generate", _generated)):
        for folder in sorted((store / kind).glob("[!.]*")):
            try:
                key = json.loads((folder / MANIFEST).read_text())["key"]
                made_with = json.loads((folder / PROVENANCE).read_text())["hardware"]
                if key.get("model", {}).get("fingerprint") == fingerprint and _is_like(made_with, hardware):
                    found += read(folder, key, models, machine)
            except (OSError, ValueError, KeyError):
                continue  # a damaged stage is a run's business, not a plan's
    return Factors(tuple(found))


def _adapted(
    folder: Path, key: Mapping[str, Any], models: tuple[Shape, Shape], machine: Machine
) -> Iterator[Measurement]:
    rows = read_history(folder)
    if not rows:
        return
    moves = json.loads((folder / ADAPTATION).read_text())["kind"] == "ChangedWeights"
    cap = int(key["optimization"]["rollout"]["max_new_tokens"])
    size = round(rows[0]["response_tokens"] / rows[0]["response_length"])
    prompt = fmean(row["prompt_tokens"] for row in rows) / size
    passes = 3.0 if moves else 2.0
    work = Work(1, size, prompt, cap, cap, passes, passes, host_bytes=HOST_BYTES if moves else 0)
    modelled = decoding_time(models[0], machine, size, prompt, cap), loss_time(models[0], machine, work)
    names: tuple[Kind, Kind] = ("rollout", "loss")
    for kind, expected in zip(names, modelled, strict=True):
        yield Measurement(kind, moves, key["prompts"], cap, fmean(row[f"seconds_{kind}"] for row in rows) / expected)


def _generated(
    folder: Path, key: Mapping[str, Any], models: tuple[Shape, Shape], machine: Machine
) -> Iterator[Measurement]:
    rows = len(pd.read_parquet(folder / COMPLETIONS, columns=["sample"]))
    prompt = fmean(json.loads(line)["tokens"] for line in (folder / PROMPTS).read_text().splitlines())
    cap, batch = int(key["decoding"]["sampling"]["max_new_tokens"]), int(key["decoding"]["batch_size"])
    sizes = [batch] * (rows // batch) + [rows % batch] * (rows % batch > 0)
    expected = sum(decoding_time(models[1], machine, size, prompt, cap) for size in sizes)
    seconds = json.loads((folder / METRICS).read_text())["seconds"]
    yield Measurement("evaluation", False, key["prompts"], cap, seconds / expected)


def _is_like(made_with: Mapping[str, Any], hardware: Mapping[str, Any]) -> bool:
    for name, wanted in hardware.items():
        value: Any = made_with
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if not (wanted in value if isinstance(wanted, str) and isinstance(value, str) else wanted == value):
            return False
    return True
