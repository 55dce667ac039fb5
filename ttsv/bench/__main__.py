"""Entry point: measure both sides in alternation, a process each, and write ``benchmark.md``, two CSV files and a figure."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ttsv.bench import growth
from ttsv.bench.page import page
from ttsv.bench.work import AT_ONCE, Workload
from ttsv.provenance import collect, git_state
from ttsv.records import UserError
from ttsv.store import write_atomically

SIDES = ("reference", "ours")
PAIRS, GROWTH = "benchmark.csv", "benchmark_growth.csv"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for and write the page from all that is measured."""
    chosen = parser().parse_args(arguments)
    chosen.results.mkdir(parents=True, exist_ok=True)
    try:
        measured = measurements(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if len(measured[GROWTH]):
        growth.draw(measured[GROWTH], chosen.results / "benchmark_growth")
    path = chosen.results / "benchmark.md"
    facts = collect(torch.device("cpu"))
    write_atomically(path, page(measured[PAIRS], measured[GROWTH], facts, path.read_text() if path.exists() else ""))
    print(path)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python -m ttsv.bench", description=(__doc__ or "").split(": ", 1)[1])
    made.add_argument(
        "settings", nargs="*", help="overrides of the config: model=..., device=..., task=... (see conf/)"
    )
    made.add_argument("--data-dir", help="folder with math500/test.jsonl (default: generated problems)")
    made.add_argument(
        "--stages", nargs="*", choices=("update", "evaluation", "growth"), default=["update", "evaluation"]
    )
    made.add_argument("--pairs", type=int, default=3, help="repetitions, a process per side (default: 3)")
    made.add_argument("--rows", nargs="+", type=int, default=[8, 16], help="rows of an update (default: 8 16)")
    made.add_argument(
        "--responses", nargs="+", type=int, default=[128, 256], help="tokens of a response (default: 128 256)"
    )
    made.add_argument(
        "--at-once",
        type=int,
        default=4,
        help="updates whose rollouts our side also draws at once; 1: none (default: 4)",
    )
    made.add_argument("--problems", type=int, default=64, help="problems evaluated (default: 64)")
    made.add_argument("--cap", type=int, default=256, help="new tokens of an evaluated response (default: 256)")
    made.add_argument(
        "--batch", type=int, default=64, help="rows of an evaluated batch of the released form (default: 64)"
    )
    made.add_argument("--dtype", default="auto", help="float32, bfloat16, ... (default: the fastest that is safe)")
    made.add_argument("--threads", type=int, default=os.cpu_count(), help="threads (default: the number of cores)")
    made.add_argument("--add", action="store_true", help="keep what an earlier run measured and add to it")
    made.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    return made


def measurements(chosen: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Measure; return and write a frame per CSV file, a row per side, stage and repetition. With ``--add`` earlier rows come first."""
    found = {name: _earlier(chosen.results / name) if chosen.add else [] for name in (PAIRS, GROWTH)}
    # Folders of this machine mean nothing elsewhere.
    words = ["..." if word in (chosen.data_dir, str(chosen.results)) else word for word in sys.argv[1:]]
    made = {"command": " ".join(["python -m ttsv.bench", *words]), "commit": str(git_state()["commit"])[:10]}
    before = {name: 1 + max((row["pair"] for row in rows), default=-1) for name, rows in found.items()}
    for name, place, plan in plans(chosen):
        pair = before[name] + place
        for side in SIDES if pair % 2 == 0 else SIDES[::-1]:
            for row in process(side, plan, chosen.threads):
                found[name].append({"pair": pair, "threads": chosen.threads, **made, **row})
                print(_told(row), flush=True)
            # Kept at once, so that an interrupted run can be gone on with (--add).
            write_atomically(chosen.results / name, pd.DataFrame(found[name]).to_csv(index=False))
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def plans(chosen: argparse.Namespace) -> Iterator[tuple[str, int, list[Workload]]]:
    """Yield what each process is to do: the file its rows go to, the number of the pair, the work."""
    common = {"settings": tuple(chosen.settings), "data_dir": chosen.data_dir, "dtype": chosen.dtype}
    for pair in range(chosen.pairs):
        if "update" in chosen.stages:
            for rows in chosen.rows:
                for response in chosen.responses:
                    sizes = {"rows": rows, "response": response, "at_once": chosen.at_once}
                    yield PAIRS, pair, [Workload("update", **common, **sizes)]
        if "evaluation" in chosen.stages:
            sizes = {"problems": chosen.problems, "cap": chosen.cap, "batch": chosen.batch}
            yield PAIRS, pair, [Workload("evaluation", **common, **sizes)]
    if "growth" in chosen.stages:
        yield GROWTH, 0, growth.plan(common)


def process(side: str, plan: Sequence[Workload], threads: int) -> list[dict[str, Any]]:
    """Run one side in a process of its own and return its records.

    Raises:
        UserError: with what the process said, if it failed.
    """
    command = [sys.executable, "-m", "ttsv.bench.work", side, json.dumps([asdict(work) for work in plan])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
    )
    if done.returncode:
        raise UserError(f"the {side} side ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _told(row: Mapping[str, Any]) -> str:
    size = f"{row['rows']} x {row['response']}" if row["stage"] in ("rollout", "loss", AT_ONCE) else ""
    used = f"{row['seconds']:7.1f} s {row['cpu_seconds']:7.1f} s of processor {row['memory'] / 2**30:6.2f} GiB"
    return f"{row['side']:9} {row['stage']:20} {size:9} {used}"


def _earlier(path: Path) -> list[dict[str, Any]]:
    rows: list[Any] = pd.read_csv(path).to_dict("records") if path.is_file() else []
    return rows


if __name__ == "__main__":
    sys.exit(main())
