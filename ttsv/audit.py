"""Audit released vectors and completions from their files alone, without a GPU and without weights.

``python -m ttsv.audit --release DIR [--out FOLDER] [--data-dir DATA]`` reads every folder in DIR, at any depth, that holds a
``prefix_embeddings.pt`` or a ``completions.jsonl``, and writes a page (README.md), figures and tables into FOLDER.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ttsv.auditing.examine import examine, task_file
from ttsv.auditing.figures import draw_all
from ttsv.auditing.page import page
from ttsv.auditing.release_files import find_release, inputs
from ttsv.auditing.tables import write_tables
from ttsv.auditing.verdicts import read_settled
from ttsv.records import UserError
from ttsv.store import file_sha256, write_atomically

REPOSITORY = Path(__file__).resolve().parents[1]
SETTLED = REPOSITORY / "tests" / "data" / "adjudicated_release.jsonl"
PAGE = "README.md"


def audit(release: Path, out: Path, data_dir: Path | None, cap: int) -> Path:
    """Audit the release and return the page written into ``out``.

    Raises:
        UserError: naming what was expected where, if nothing is found or a file cannot be used.
    """
    folders = find_release(release)
    settled = read_settled(SETTLED) if SETTLED.is_file() else {}
    findings = [examine(folder, cap, data_dir, settled) for folder in folders]
    tasks = dict.fromkeys(file for folder in folders if (file := task_file(folder, data_dir)) is not None)
    read = inputs(folders) + [
        {
            "file": f"{file.parent.name}/{file.name} (task data)",
            "bytes": file.stat().st_size,
            "sha256": file_sha256(file),
        }
        for file in tasks
    ]
    out.mkdir(parents=True, exist_ok=True)
    write_tables(out, read, findings)
    draw_all(out, findings)
    write_atomically(out / PAGE, page(read, findings, cap, bool(tasks), _link(SETTLED, out)))
    return out / PAGE


def _link(target: Path, folder: Path) -> str | None:
    """Return how a page in ``folder`` links to ``target``, None where they are not in one repository."""
    if not target.is_file() or not folder.resolve().is_relative_to(REPOSITORY):
        return None
    return Path(os.path.relpath(target, folder.resolve())).as_posix()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ttsv.audit", description="Audit a release from its files alone.")
    parser.add_argument(
        "--release", type=Path, required=True, help="folder of the released files, or a clone of their repository"
    )
    parser.add_argument("--out", type=Path, default=Path("results/audit"), help="where to write (default: %(default)s)")
    parser.add_argument(
        "--data-dir", type=Path, help="folder with <task>/test.jsonl, for subjects and a check of the golds"
    )
    parser.add_argument(
        "--cap", type=int, default=3072, help="generation cap of the release in tokens (default: %(default)s)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _arguments(argv)
    try:
        print(audit(arguments.release, arguments.out, arguments.data_dir, arguments.cap))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
