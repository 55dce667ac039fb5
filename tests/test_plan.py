"""The planner: the cells that a sweep launches, shared work counted once, finished work left out, measurements instead of shares."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_run import Invoke, invoke, setting  # noqa: F401  # a fixture of theirs

from ttsv import pipeline
from ttsv.cell import Cell
from ttsv.cost import decoding_time
from ttsv.machine import CARDS, Machine
from ttsv.plan import steps
from ttsv.plan.__main__ import main
from ttsv.plan.expansion import Refused, expand
from ttsv.plan.measured import Factors, Measurement, factors
from ttsv.plan.page import Line, lines
from ttsv.plan.steps import Planned, plan_cell
from ttsv.records import UserError

CPU = torch.device("cpu")
MACHINE = Machine(CPU, 1e11, 1e10, 2**34)
NONE_MEASURED = Factors(())


def cells(*words: str) -> list[Cell]:
    found = expand(words)
    assert not [cell for cell in found if isinstance(cell, Refused)]
    return [cell for cell in found if isinstance(cell, Cell)]


def planned(*words: str, device: torch.device = CPU) -> list[Planned]:
    steps._asked.clear()
    steps._source.cache_clear()
    return [plan_cell(cell, device) for cell in cells(*words)]


def summed(found: list[Planned]) -> dict[str, Line]:
    return {name[2]: line for name, line in lines(found, MACHINE, lambda one: NONE_MEASURED).items()}


@pytest.mark.slow
def test_a_plan_has_the_cells_that_a_sweep_launches(
    invoke: Invoke,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launched: list[tuple[str, ...]] = []

    def noted(cell: Cell) -> Any:
        launched.append(cell.overrides)
        raise UserError("enough")

    monkeypatch.setattr(pipeline, "run_cell", noted)
    words = ["experiment=ablation_length", "scale=mini", "seed=range(15,17)", f"results_dir={tmp_path}/results"]
    assert invoke("-m", *words).code == 2
    expected = [cell.overrides for cell in cells(*words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=3")]
    assert launched == expected
    assert len(launched) == len(set(launched)) == 3 * 3 * 2  # lengths of the grid, methods, seeds


def test_a_cell_that_a_run_would_refuse_is_named_and_the_others_are_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*setting(tmp_path), "method=none,released_vector", "seed=15,16", "vector=/nowhere.pt"]
    assert main([*words, "--card", "H100"]) == 2
    caught = capsys.readouterr()
    assert "2 of the cells would be refused" in caught.err
    assert caught.err.count("no vector at /nowhere.pt") == 1
    assert "2 cells, 0 finished" in caught.out
    assert "H100" in caught.out
    assert not (tmp_path / "results").exists()


def test_shared_work_is_counted_once(tmp_path: Path) -> None:
    found = summed(planned(*setting(tmp_path), "method=none,ttsv,shuffled_prefix,untrained_prefix", "seed=15,16"))
    assert {name: line.cells for name, line in found.items()} == dict.fromkeys(found, 2)
    assert found["none"].evaluation_tokens == 6 * 6  # a greedy baseline serves every seed
    assert found["untrained_prefix"].evaluation_tokens == 2 * 6 * 6
    assert found["ttsv"].updates == 2 * 3
    assert found["shuffled_prefix"].updates == 0  # its vectors are those of ttsv
    assert found["shuffled_prefix"].evaluation_tokens == 2 * 6 * 6
    alone = summed(planned(*setting_again(tmp_path), "method=shuffled_prefix", "seed=15,16"))
    assert alone["shuffled_prefix"].updates == 2 * 3


def setting_again(folder: Path) -> list[str]:
    (folder / "again").mkdir()
    return setting(folder / "again")


def test_what_is_finished_costs_nothing_and_lends_its_times(invoke: Invoke, tmp_path: Path) -> None:  # noqa: F811
    words, wanted = setting(tmp_path), ["method=none,ttsv", "seed=15,16"]
    assert invoke("-m", *words, "method=none,ttsv", "seed=15").code == 0
    found = planned(*words, *wanted)
    assert [one.finished for one in found] == [True, False, True, False]
    table = summed(found)
    assert table["none"].seconds.hours == 0  # the other seed's baseline is the same stage
    assert table["ttsv"].updates == 3
    measured = factors(
        tmp_path / "results" / "stages", found[0].fingerprint, found[0].models, MACHINE, {"device": "cpu"}
    )
    assert {m.kind for m in measured.measured} == {"rollout", "loss", "evaluation"}
    assert all(m.factor > 0 for m in measured.measured)
    elsewhere = {"device": "cuda"}
    assert (
        factors(tmp_path / "results" / "stages", found[0].fingerprint, found[0].models, MACHINE, elsewhere)
        == NONE_MEASURED
    )
    # A stage that took what the model says at its cap has factor 1, whatever the machine.
    evaluated = next(m for m in measured.measured if m.kind == "evaluation")
    slower = replace(MACHINE, flops=MACHINE.flops / 10, bandwidth=MACHINE.bandwidth / 10)
    again = factors(tmp_path / "results" / "stages", found[0].fingerprint, found[0].models, slower, {"device": "cpu"})
    same = next(m for m in again.measured if (m.kind, m.prompts) == ("evaluation", evaluated.prompts))
    model = found[0].models[1]
    ratio = decoding_time(model, slower, 6, 8, 6) / decoding_time(model, MACHINE, 6, 8, 6)
    assert evaluated.factor / same.factor == pytest.approx(ratio)


def test_a_plan_of_a_finished_sweep_is_finished_whole(invoke: Invoke, tmp_path: Path) -> None:  # noqa: F811
    words = [*setting(tmp_path), "method=none,ttsv,em,slot,ttsv_sample,shuffled_prefix"]
    assert sum(line.seconds.hours for line in summed(planned(*words)).values()) > 0
    assert invoke("-m", *words).code == 0
    found = planned(*words)
    assert all(one.finished for one in found)
    assert all(step.finished for one in found for step in one.steps)


def test_the_most_alike_measurements_are_taken() -> None:
    found = Factors(
        (
            Measurement("evaluation", False, "p", 96, 0.5),
            Measurement("evaluation", False, "p", 96, 0.7),
            Measurement("evaluation", False, "q", 96, 3.0),
            Measurement("loss", True, "p", 48, 4.0),
        )
    )
    assert found.of("evaluation", "p", 96) == pytest.approx(0.6)
    assert found.of("evaluation", "other", 96) == pytest.approx(0.7)
    assert found.of("loss", "p", 48, moves_weights=True) == 4.0
    assert found.of("loss", "p", 48) == 1.0


def test_a_model_that_is_not_at_hand_is_planned_for_a_card(tmp_path: Path) -> None:
    words = [
        "model=qwen2_5_math_7b",
        "recipe=paper",
        "scale=full",
        "task=gcd",
        "method=none,ttsv",
        "prompt=release,chat",
    ]
    found = planned(*words, f"results_dir={tmp_path}/results", device=CARDS["H100"].device)
    assert len({step.identity for one in found for step in one.steps if step.answers}) == 4  # templates are told apart
    assert all(one.sized for one in found)
    table = lines(found, CARDS["H100"], lambda one: NONE_MEASURED)
    assert 0.01 < table["qwen2_5_math_7b", "gcd", "ttsv"].seconds.hours < 100
    assert 15e9 < table["qwen2_5_math_7b", "gcd", "ttsv"].memory < 60e9


def test_half_a_machine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device-flops", "1e14", "method=none"]) == 2
    assert "belong together" in capsys.readouterr().err
