"""The plan in words: a line for each model, task and method, shared work in the line that needs it first, and the totals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

from ttsv.cost import Seconds, memory, seconds
from ttsv.machine import Machine
from ttsv.plan.measured import Factors
from ttsv.plan.steps import Planned
from ttsv.preflight import count, duration, plural

GIB = 2.0**30


@dataclass
class Line:
    """Sums over the cells of one model, task and method; what another line has counted already is left out."""

    cells: int = 0
    finished: int = 0
    updates: int = 0
    rollout_tokens: int = 0
    loss_tokens: int = 0
    evaluation_tokens: int = 0
    time: list[Seconds] = field(default_factory=list)
    memory: float = 0.0
    host: float = 0.0
    sized: bool = True

    @property
    def seconds(self) -> Seconds:
        """The times of the kinds of work, summed."""
        kinds = ("rollout", "loss", "evaluation")
        return Seconds(*(sum(getattr(time, kind) for time in self.time) for kind in kinds))


def lines(
    planned: Sequence[Planned], machine: Machine, factors: Callable[[Planned], Factors]
) -> dict[tuple[str, str, str], Line]:
    """Return the sums by model, task and method, in the order of the sweep; what is finished costs nothing."""
    found: dict[tuple[str, str, str], Line] = {}
    counted: set[str] = set()
    for one in planned:
        cell = one.cell
        line = found.setdefault((cell.model.name, cell.names["task"], cell.method.name), Line())
        line.cells, line.finished = line.cells + 1, line.finished + one.finished
        line.memory = max(line.memory, memory(one.work, one.answers, one.models, machine))
        line.host = max(line.host, one.work.host_bytes * one.models[0].parameters)
        line.sized &= one.sized
        for step in one.steps:
            if step.finished or step.identity in counted:
                continue
            counted.add(step.identity)
            cap = step.answers.cap if step.answers else 0
            line.updates += step.work.updates
            line.rollout_tokens += step.work.rollout_tokens
            line.loss_tokens += step.work.loss_tokens
            line.evaluation_tokens += step.answers.tokens if step.answers else 0
            scale = factors(one).of_step(step.work, step.prompts, cap)
            line.time.append(seconds(step.work, step.answers, one.models, machine, scale))
    return found


def page(found: Mapping[tuple[str, str, str], Line]) -> str:
    """Return the table and the totals."""
    total = Line(
        sum(line.cells for line in found.values()),
        sum(line.finished for line in found.values()),
        sum(line.updates for line in found.values()),
        sum(line.rollout_tokens for line in found.values()),
        sum(line.loss_tokens for line in found.values()),
        sum(line.evaluation_tokens for line in found.values()),
        [time for line in found.values() for time in line.time],
        max((line.memory for line in found.values()), default=0.0),
        max((line.host for line in found.values()), default=0.0),
        all(line.sized for line in found.values()),
    )
    rows = [[*name, *_row(line)] for name, line in found.items()]
    headers = ["model", "task", "method", "cells", "finished", "updates"]
    headers += ["rollout tokens", "loss tokens", "evaluation tokens", "hours", "GiB a cell", "of the host"]
    table = tabulate([*rows, ["all", "", "", *_row(total)]], headers, tablefmt="github", disable_numparse=True)
    time = total.seconds
    parts = " + ".join(f"{value / 3600:.2f} {name}" for name, value in vars(time).items())
    return f"{table}\n\n{plural(total.cells, 'cell')}, {total.finished} finished; about {duration(time)} at most ({parts} hours)"


def _row(line: Line) -> list[str]:
    tokens = (line.rollout_tokens, line.loss_tokens, line.evaluation_tokens)
    most = "" if line.sized else "at least "
    return [
        str(line.cells),
        str(line.finished),
        f"{line.updates:,}",
        *(count(number) if number else "" for number in tokens),
        f"{line.seconds.hours:.2f}",
        f"{most}{line.memory / GIB:.1f}",
        f"{line.host / GIB:.1f}" if line.host else "",
    ]
