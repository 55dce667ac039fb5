"""Small releases whose truth is known, and the released files where they are at hand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ttsv.auditing.initializations import initial_vectors

REPOSITORY = Path(__file__).resolve().parents[2]
LENGTH, WIDTH = 20, 64


def released_row(idx: int, gold: str, text: str, score: bool, **more: Any) -> dict[str, Any]:
    """A row as the release writes it."""
    return {"idx": idx, "question": f"question {idx}", "answer": gold, "code": [text], "score": [score], **more}


def drift() -> torch.Tensor:
    """A movement (L, d) of known size, as an optimiser might have made it."""
    return 0.05 * torch.randn(LENGTH, WIDTH, generator=torch.Generator().manual_seed(99))


def write_vector(place: Path) -> None:
    """Write a released vector into ``place``: the first draw of seed 7, moved by ``drift``."""
    place.mkdir(parents=True, exist_ok=True)
    initial = torch.from_numpy(initial_vectors("nn.Embedding(L, d), first draw", 7, LENGTH, WIDTH))
    torch.save({"weight": initial + drift()}, place / "prefix_embeddings.pt")


def write_completions(place: Path, rows: list[dict[str, Any]]) -> None:
    """Write released completions into ``place``."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The released files; skips where there are none."""
    shared = Path(os.environ.get("TTSV_SHARED", REPOSITORY.parent / "shared"))
    folder = shared / "reference" / "ttsv_release"
    if not folder.is_dir():
        pytest.skip(f"no released files at {folder}: set TTSV_SHARED")
    return folder
