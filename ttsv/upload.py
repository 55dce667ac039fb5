"""Mirror finished studies to W&B, now or again, from their files alone. ``python -m ttsv.upload --help``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ttsv.records import UserError
from ttsv.tracking import WandbMirror


def upload(folder: Path, mirror: WandbMirror) -> int:
    """Mirror every run of a study and then its summary; return how many of these failed, each with a warning.

    Raises:
        UserError: if the folder holds no run records.
    """
    records = sorted(folder.glob("*.json"))
    if not records or folder.resolve().parent.name != "runs":
        raise UserError(f"no run records in {folder}; expected the folder of a study, <results>/runs/<study>")
    return sum(not mirror.cell(file) for file in records) + (not mirror.study(folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Upload the named studies; the status is 2 if anything is missing or failed."""
    default = WandbMirror()
    parser = argparse.ArgumentParser(
        prog="python -m ttsv.upload",
        description="Mirror the finished runs of studies to Weights & Biases. Doing it again updates the same W&B runs.",
    )
    parser.add_argument("study", nargs="+", type=Path, help="folders of studies: results/runs/<study>")
    parser.add_argument("--mode", choices=["online", "offline"], default=default.mode, help="default: %(default)s")
    parser.add_argument("--project", default=default.project, help="default: %(default)s")
    parser.add_argument("--entity", help="a user or team; the account's default if not given")
    parser.add_argument("--dir", default=default.dir, help="where wandb makes its folder (default: %(default)s)")
    parser.add_argument(
        "--sample-rows", type=int, default=default.sample_rows, help="rows of the sample table (default: %(default)s)"
    )
    parser.add_argument("--timeout", type=float, default=default.timeout, help="seconds (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("ttsv").setLevel(logging.INFO)
    try:
        mirror = WandbMirror(chosen.mode, chosen.project, chosen.entity, chosen.dir, chosen.sample_rows, chosen.timeout)
        failed = sum(upload(folder.resolve(), mirror) for folder in chosen.study)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
