"""The state of an optimisation, and where it is kept: a run that was stopped goes on from here, bit for bit."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ttsv.adaptations import Adaptation
from ttsv.records import Completion, UserError
from ttsv.soft_prompt import tensors_digest, write_tensors
from ttsv.store import UNFINISHED, digest
from ttsv.trainables import Values

CHECKPOINT = f"{UNFINISHED}/checkpoint.safetensors"
_PARTS = ("initial", "values", "first_moment", "second_moment")


@dataclass
class State:
    """Everything that the rest of a run depends on: the values with AdamW's two moments, and the history so far.

    ``pending`` are the rollouts of the next updates where they were drawn already, which earlier values did: they cannot be drawn again.
    """

    initial: Values
    values: Values
    first_moment: Values
    second_moment: Values
    update: int
    history: list[dict[str, Any]]
    diverged: str | None = None
    collapsed: str | None = None
    collapsed_at: int | None = None
    pending: list[list[Completion]] = field(default_factory=list)

    def distance(self) -> float:
        """Return the Euclidean distance from the initial values."""
        return norm({name: value - self.initial[name] for name, value in self.values.items()})


@dataclass(frozen=True)
class Checkpoints:
    """Where a run's state and what it kept on the way lie: :data:`CHECKPOINT`, and ``kept/update_N.safetensors``, which stay."""

    folder: Path

    def save(self, state: State) -> None:
        """Replace the checkpoint, atomically."""
        tensors = {f"{part}/{n}": t for part in _PARTS for n, t in getattr(state, part).items()}
        plain = {name: getattr(state, name) for name in ("update", "history", "diverged", "collapsed", "collapsed_at")}
        rest = json.dumps(plain | {"pending": [[asdict(c) for c in responses] for responses in state.pending]})
        (self.folder / CHECKPOINT).parent.mkdir(exist_ok=True)
        metadata = {"state": rest, "digest": digest([rest, tensors_digest(tensors)])}
        write_tensors(self.folder / CHECKPOINT, tensors, metadata)

    def load(self) -> State | None:
        """Return the checkpoint's state, or None where the run has not got to one."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
            if digest([metadata["state"], tensors_digest(tensors)]) != metadata["digest"]:
                raise ValueError("its content is not what was written")
            parts: dict[str, Values] = {part: {} for part in _PARTS}
            for name, tensor in tensors.items():
                part, _, own = name.partition("/")
                parts[part][own] = tensor
            initial, values, first, second = (parts[part] for part in _PARTS)
            rest = json.loads(metadata["state"])
            pending = [[Completion.of(row) for row in responses] for responses in rest.pop("pending", [])]
            return State(initial, values, first, second, **rest, pending=pending)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}); delete {self.folder} and run the same command again"
            ) from error

    def keep(self, adaptation: Adaptation, update: int) -> None:
        """Keep the adaptation of this update."""
        path = kept(self.folder, update)
        path.parent.mkdir(exist_ok=True)
        adaptation.save(path)


def kept(folder: Path, update: int) -> Path:
    """Return the file in which a run in ``folder`` keeps the adaptation of an update."""
    return folder / "kept" / f"update_{update:05d}.safetensors"


def norm(values: Values) -> float:
    """Return the Euclidean norm of all values together."""
    return float(torch.stack([value.norm() for value in values.values()]).norm())
