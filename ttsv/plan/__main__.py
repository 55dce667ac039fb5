"""Entry point: what a sweep will cost, from the same words as ``python -m ttsv.run -m``, with nothing run and no weights loaded."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ttsv import sweep
from ttsv.cost import DECODING_SHARE, LAYER_SECONDS, LOSS_SHARE
from ttsv.machine import CARDS, Machine, measure
from ttsv.models import resolve_device
from ttsv.plan.expansion import Refused, expand
from ttsv.plan.measured import Factors, factors
from ttsv.plan.page import lines, page
from ttsv.plan.steps import Planned, plan_cell
from ttsv.preflight import plural
from ttsv.prepared import dtypes_on
from ttsv.provenance import hardware
from ttsv.records import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan; 2 if a cell would be refused."""
    chosen, words = parser().parse_known_args(arguments)
    try:
        card = target(chosen)
        ends, planned, machine = [], [], card
        for cell in expand(words):
            if isinstance(cell, Refused):
                ends.append(sweep.End(" ".join(cell.words), cell.reason))
                continue
            try:
                device = card.device if card else resolve_device(cell.plain["device"])
                machine = machine or measure(device, dtypes_on(cell, device)[1])
                planned.append(plan_cell(cell, device))
            except UserError as error:
                ends.append(sweep.End(" ".join(cell.overrides), str(error)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if machine is not None and planned:
        measurements = measured_on(machine)
        print(page(lines(planned, machine, measurements)))
        print(told(machine, sum(len(f.measured) for f in {id(f): f for f in map(measurements, planned)}.values())))
    if ends:
        print(f"\n{len(ends)} of the cells would be refused:\n{sweep.grouped(ends)}", file=sys.stderr)
    return 2 if ends else 0


def parser() -> argparse.ArgumentParser:
    """Return the command line; all other words are overrides of the sweep."""
    made = argparse.ArgumentParser(
        prog="python -m ttsv.plan",
        usage="python -m ttsv.plan [--card NAME | --device-flops F --device-bandwidth B] KEY=VALUE ...",
        description="What a sweep will cost: cells, tokens, hours and memory. KEY=VALUE as for python -m ttsv.run -m.",
    )
    made.add_argument("--card", choices=sorted(CARDS), help="plan for such a GPU instead of this machine")
    made.add_argument("--device-flops", type=float, help="plan for a GPU of so many FLOP/s (dense, bf16)")
    made.add_argument("--device-bandwidth", type=float, help="and so many bytes/s of memory bandwidth")
    return made


def target(chosen: argparse.Namespace) -> Machine | None:
    """Return the machine that was named, or None for this one.

    Raises:
        UserError: if only one of the two rates was given.
    """
    flops, bandwidth = chosen.device_flops, chosen.device_bandwidth
    if (flops is None) != (bandwidth is None):
        raise UserError("--device-flops and --device-bandwidth belong together; give both, or --card NAME")
    if flops is not None:
        return Machine(torch.device("cuda"), flops, bandwidth, 0, "as given")
    return CARDS[chosen.card] if chosen.card else None


def measured_on(machine: Machine) -> Callable[[Planned], Factors]:
    """Return what gives a cell the measurements of its model on this machine."""
    cuda = machine.device.type == "cuda"
    here: dict[str, Any] = {"device": machine.device.type}
    if cuda:
        here["gpu.name"] = machine.name
    else:
        own = hardware(machine.device)
        here |= {name: own[name] for name in ("cpu", "cores", "threads")}

    remembered = lru_cache(maxsize=None)(
        lambda store, fingerprint, models: factors(Path(store), fingerprint, models, machine, here)
    )

    def of(planned: Planned) -> Factors:
        store = str(Path(planned.cell.plain["results_dir"]) / "stages")
        return remembered(store, planned.fingerprint, planned.models)

    return of


def told(machine: Machine, measurements: int) -> str:
    """Return what the estimate rests on, in words."""
    rates = f"{machine.flops / 1e12:,.3g} TFLOP/s and {machine.bandwidth / 1e9:,.0f} GB/s"
    graphs = machine.device.type == "cuda"
    decoding = (
        f"all of them and {LAYER_SECONDS * 1e3:.2f} ms a layer and step" if graphs else f"{DECODING_SHARE:.0%} of them"
    )
    stated = f"{decoding} for decoding, {LOSS_SHARE:.0%} for the rest"
    basis = "nothing measured yet"
    if measurements:
        basis = f"corrected by {plural(measurements, 'measurement')} in finished stages of the model on such a device"
    return (
        f"On {machine.name or machine.device}: {rates}, {stated}; {basis}. One cell after another, every response running to its cap; "
        "loading and grading are left out."
    )


if __name__ == "__main__":
    logging.getLogger("ttsv").setLevel(logging.ERROR)
    sys.exit(main())
