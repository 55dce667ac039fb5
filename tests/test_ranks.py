"""Several processes give what one gives; the first alone writes and prints, and none outlives the others."""

import multiprocessing
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ranked_runs
import torch
from test_interruption import outcome
from test_run import setting
from tiny_models import WIDTH, recipe, save_folder, some_prompts, tiny_lm

from ttsv.placement import Layout
from ttsv.ranks import Share
from ttsv.trainables import AllWeights, LoRA, PrefixPerProblem, SharedPrefix, Trainable

pytestmark = pytest.mark.usefixtures("fork_server")

PROMPTS = some_prompts(7)
RESPONSES = [[65 + n % 7, 66, *range(70, 70 + n % 5)] for n in range(7)]
VECTORS = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(8))
TRAINABLES: dict[str, Trainable] = {
    "a vector": SharedPrefix(VECTORS),
    "a vector per problem": PrefixPerProblem(VECTORS, tuple(p.problem_id for p in PROMPTS)),
    "all weights": AllWeights(),
    "an adapter": LoRA(2, 4, 0),
}


@pytest.mark.parametrize("name", ["paper", "corrected"])
@pytest.mark.parametrize("kind", TRAINABLES)
@pytest.mark.parametrize("parts", [2, 9])
def test_shares_add_up_to_the_whole(name: str, kind: str, parts: int) -> None:
    options, trainable, lm = recipe(name), TRAINABLES[kind], tiny_lm("qwen2", torch.float64)
    if kind == "a vector per problem":
        options = replace(options, layout=Layout(), shard_size=None)
    values = trainable.initial(lm)
    work = (lm, values, PROMPTS, RESPONSES, options)
    loss, gradient = trainable.gradient(*work)
    found = [trainable.gradient(*work, Share(number, parts)) for number in range(parts)]
    assert sum(part[0] for part in found) == pytest.approx(loss, rel=1e-6)
    assert set(gradient) == set(values)
    for key, whole in gradient.items():
        torch.testing.assert_close(sum(part[1][key] for part in found), whole, rtol=1e-4, atol=1e-7)
    assert max(float(whole.abs().max()) for whole in gradient.values()) > 1e-3


def processes(target: Callable[..., None], size: int, folder: Path, *arguments: Any) -> list[int | None]:
    """Run ``target`` as a launcher would, a process per rank; return how they ended."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    started = [context.Process(target=target, args=(rank, size, port, str(folder), *arguments)) for rank in range(size)]
    for process in started:
        process.start()
    for process in started:
        process.join(100)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    return codes


def printed(folder: Path, rank: int) -> str:
    return (folder / "printed" / f"{rank}.txt").read_text()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_folder(tmp_path_factory.mktemp("ranks") / "model", "qwen2"))


def run(
    folder: Path, model: str, size: int, recipe_name: str | None = "corrected", kill_at: int | None = None
) -> list[Any]:
    folder.mkdir(exist_ok=True)
    return processes(ranked_runs.run, size, folder, model, recipe_name, kill_at)


def close(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Assert that two outcomes are the same up to the order of floating-point sums."""
    assert set(found[0]) == set(expected[0])
    for name, vector in expected[0].items():
        numbers = [torch.frombuffer(bytearray(content), dtype=torch.float32) for content in (found[0][name], vector)]
        torch.testing.assert_close(*numbers, rtol=1e-3, atol=1e-5)
    assert [row["response_tokens"] for row in found[1]] == [row["response_tokens"] for row in expected[1]]
    assert [row["token_ids"] for row in found[2]] == [row["token_ids"] for row in expected[2]]
    assert found[3] == expected[3]


def test_2_and_4_processes_give_what_one_gives_and_a_killed_run_goes_on(tmp_path: Path, model: str) -> None:
    assert run(tmp_path / "1", model, 1) == [0]
    expected, gradients = outcome(tmp_path / "1"), torch.load(tmp_path / "1" / "gradients.pt")
    for size in (2, 4):
        recipe_name = "corrected" if size == 2 else None
        assert run(tmp_path / str(size), model, size, recipe_name) == [0] * size, printed(tmp_path / str(size), 0)
        for name, (loss, gradient) in torch.load(tmp_path / str(size) / "gradients.pt").items():
            assert loss == pytest.approx(gradients[name][0], rel=1e-6)
            torch.testing.assert_close(gradient, gradients[name][1], rtol=1e-4, atol=1e-8)
        assert [printed(tmp_path / str(size), rank) for rank in range(1, size)] == [""] * (size - 1)
    close(outcome(tmp_path / "2"), expected)
    # The leader is killed: the others end by themselves, and the same command goes on, bit for bit.
    for moment in (9, 6):
        codes = run(tmp_path / "killed", model, 2, kill_at=moment)
        assert codes == [-9, 1], printed(tmp_path / "killed", 1)
    assert run(tmp_path / "killed", model, 2) == [0, 0]
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "2")


def test_what_another_process_raises_is_raised_by_the_leader_and_all_go_on(tmp_path: Path) -> None:
    assert processes(ranked_runs.failing, 2, tmp_path, "exception") == [0, 0]
    said = printed(tmp_path, 0)
    assert "ZeroDivisionError no such thing in process 1 of 2:" in said
    assert "ranked_runs.py" in said
    assert said.splitlines()[-1] == "[[0, 2], [1, 3]]"
    assert printed(tmp_path, 1) == ""


def test_the_death_of_another_process_ends_the_run_with_one_message(tmp_path: Path) -> None:
    codes = processes(ranked_runs.failing, 2, tmp_path, "death")
    assert codes[1] == -9
    assert codes[0] not in (0, None)
    assert printed(tmp_path, 0).startswith("UserError one of the 2 processes of this run has ended")


def test_the_command_prints_one_table_and_writes_what_one_process_writes(tmp_path: Path) -> None:
    words = [*setting(tmp_path), "method=ttsv"]
    assert processes(ranked_runs.command, 2, tmp_path, words) == [0, 0]
    assert printed(tmp_path, 0).count("## tiny on mine, 6 problems") == 1
    assert printed(tmp_path, 1) == ""
    assert len(list((tmp_path / "results" / "runs" / "test").glob("*.json"))) == 1
    assert not list((tmp_path / "results").rglob(".work-*"))
    # What the user can mend is said once.
    assert processes(ranked_runs.command, 2, tmp_path, [*words, "seed=no"]) == [2, 0]
    assert printed(tmp_path, 0).count("error:") == 1
    assert printed(tmp_path, 1) == ""
