"""What the tests of several processes run in each of them, as a launcher would start it."""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import tiny_models
import torch
from killed_runs import adapt_and_generate, kill_at_write

from ttsv import ranks
from ttsv.models import LanguageModel, held, open_source
from ttsv.ranks import Share
from ttsv.trainables import SharedPrefix
from ttsv.weights import ModelConfig


def join(rank: int, size: int, port: int, output: Path) -> None:
    """Set the environment that launchers set, and write what is printed to a file of this process."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    output.mkdir(parents=True, exist_ok=True)
    file = os.open(output / f"{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)


def loaded(folder: str, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """The tiny model in a folder, as every process can load it."""
    return held(open_source(ModelConfig("tiny", path=folder)), dtype, torch.device("cpu"))


def gradients(lm: LanguageModel) -> dict[str, Any]:
    """Losses and gradients of fixed responses, by recipe."""
    prompts = tiny_models.some_prompts(16)
    responses = [[65 + n % 7, 66, *range(70, 70 + n % 5)] for n in range(16)]
    vectors = torch.randn(3, tiny_models.WIDTH, generator=torch.Generator().manual_seed(8))
    found = {}
    for name in ("paper", "corrected"):
        work = (lm, {"vectors": vectors}, prompts, responses, tiny_models.recipe(name))
        parts = ranks.call(SharedPrefix(vectors).gradient, [(*work, share) for share in ranks.shares()])
        found[name] = (sum(part[0] for part in parts), sum(part[1]["vectors"] for part in parts))
    return found


def run(rank: int, size: int, port: int, folder: str, model: str, recipe: str | None, kill_at: int | None) -> None:
    """Compute gradients, then adapt and generate under a recipe into ``folder``; the leader is killed at a write if asked for."""
    join(rank, size, port, Path(folder) / "printed")
    with ranks.joined() as leading:
        if leading:
            if kill_at is None:
                torch.save(gradients(loaded(model, torch.float64)), Path(folder) / "gradients.pt")
            if recipe is None:
                return
            lm = loaded(model)
            if kill_at is not None:
                kill_at_write(kill_at)
            adapt_and_generate(lm, folder, recipe)


def command(rank: int, size: int, port: int, folder: str, words: list[str]) -> None:
    """Run ``python -m ttsv.run`` with these words."""
    join(rank, size, port, Path(folder) / "printed")
    sys.argv = ["ttsv.run", *words]
    runpy.run_module("ttsv.run", run_name="__main__")


def failing(rank: int, size: int, port: int, folder: str, how: str) -> None:
    """Let the second process fail in a call; the leader prints what it raises."""
    join(rank, size, port, Path(folder) / "printed")
    with ranks.joined() as leading:
        if leading:
            try:
                print(ranks.call(fail, [(how, share) for share in ranks.shares()]))
            except Exception as error:
                print(type(error).__name__, error, *getattr(error, "__notes__", ()))
                print(ranks.call(Share.of, [(share, range(4)) for share in ranks.shares()]))


def fail(how: str, share: Share) -> int:
    """Fail in the second process: by an exception, or by death."""
    if share.number == 1 and how == "exception":
        raise ZeroDivisionError("no such thing")
    if share.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return share.number
