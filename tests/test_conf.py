"""Every file of conf/ composes and builds, so that no choice that the README lists is a dead letter."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from ttsv.cell import Cell
from ttsv.config import build, component

CONF = Path(__file__).resolve().parents[1] / "conf"
NEEDED = {"model=from_hub": ["model.id=a/b"], "model=from_folder": ["model.path=folder"]}
CHOICES = [
    f"{group}={file.stem}"
    for group in (
        "model",
        "task",
        "prompt",
        "method",
        "recipe",
        "scale",
        "engine",
        "grader",
        "tracking",
        "experiment",
        "ladder",
    )
    for file in sorted((CONF / group).glob("*.yaml"))
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_a_group_builds(choice: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [choice, *NEEDED.get(choice, [])], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config.hydra  # as hydra.main does before it calls the program
        cell = build(config)
        component(config.tracking, "tracking")
    group, name = choice.split("=")
    if group in ("task", "method"):
        assert getattr(cell, group).name == name


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_says_what_it_is(choice: str) -> None:
    group, name = choice.split("=")
    first, second = (CONF / group / f"{name}.yaml").read_text().splitlines()[:2]
    line = second if first.startswith("# @package") else first
    assert line.startswith("# ")
    assert len(line) > 20


LADDER = sorted(file.stem for file in (CONF / "ladder").glob("*.yaml"))


def recipe(*words: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = OmegaConf.to_container(compose("config", list(words)).recipe, resolve=True)
    assert isinstance(found, dict)
    del found["name"]
    return found


@pytest.mark.parametrize("scale", ["full", "mini"])
def test_the_ladder_leads_from_paper_to_corrected(scale: str) -> None:
    steps = [recipe("recipe=paper", f"ladder={step}", f"scale={scale}") for step in LADDER]
    assert steps[0] == recipe("recipe=paper", f"scale={scale}")
    assert all(before != after for before, after in pairwise(steps))
    last, corrected = steps[-1], recipe("recipe=corrected", f"scale={scale}")
    if scale == "full":
        assert last["dtype"]["adapt"] == "bfloat16"  # what auto gives on every GPU that is meant
        corrected["dtype"] = last["dtype"]
        assert last["dtype"]["evaluate"] == last["dtype"]["adapt"]
    assert last == corrected


PARTS = ["controls", *(f"controls/{file.stem}" for file in sorted((CONF / "experiment" / "controls").glob("*.yaml")))]
OF_STUDIES = {**dict.fromkeys(PARTS, "controls"), "audit_gpu": "audit_gpu", "robustness": "robustness"}


def choices_of(name: str, scale: str) -> dict[str, list[str]]:
    """Return what an experiment sweeps over: key to values. Hydra must be initialised."""
    master = compose("config", [f"experiment={name}", f"scale={scale}"], return_hydra_config=True)
    HydraConfig.instance().set_config(master)
    grid = OmegaConf.to_container(master.hydra.sweeper.params, resolve=True)
    assert isinstance(grid, dict)
    return {key: str(values).split(",") for key, values in grid.items()}


def cells_that_try(values: dict[str, list[str]], choices: dict[str, list[str]]) -> set[tuple[str, ...]]:
    """Return the words of cells in which each of ``values`` stands once, the other keys at their last choice."""
    return {
        tuple(f"{k}={value if k == key else v[-1]}" for k, v in choices.items())
        for key, tried in values.items()
        for value in tried
    }


def built(*words: str) -> Cell:
    """Return the cell of a composed config. Hydra must be initialised."""
    config = compose("config", list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config.hydra
    return build(config)


@pytest.mark.parametrize("name", OF_STUDIES)
@pytest.mark.parametrize("scale", ["full", "mini"])
def test_every_value_of_a_control_sweep_builds_into_its_study(name: str, scale: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        choices = choices_of(name, scale)
        # What all parts share is tried once, with the first of them.
        own = (
            choices
            if name == "controls"
            else {k: v for k, v in choices.items() if k not in ("model", "task", "seed", "recipe")}
        )
        values = {key: v if key in ("prompt", "method") else v[-1:] for key, v in own.items()}
        for words in cells_that_try(values, choices):
            cell = built(f"experiment={name}", f"scale={scale}", *words)
            assert cell.study == OF_STUDIES[name]
            assert cell.names["scale"] == scale
            assert cell.plain["recipe"]["optimization"]["updates"] is None or scale == "mini"


def test_make_controls_runs_every_part() -> None:
    found = re.search(
        r"^CONTROLS := controls \$\(addprefix controls/,(.*)\)$", (CONF.parent / "Makefile").read_text(), re.M
    )
    assert found is not None
    assert {"controls", *(f"controls/{part}" for part in found[1].split())} == set(PARTS)


EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml") if "- claim" in file.read_text())


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["full", "mini"])
def test_every_cell_of_a_claims_grid_names_configs_that_exist_and_builds(name: str, scale: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        choices = choices_of(name, scale)
        assert "none" in choices["method"]
        choices.pop("ladder", None)  # each step of it is built by a test of its own
        limit = None if scale == "full" else compose("config", [f"experiment={name}"]).grid.mini.limit
        for words in cells_that_try(choices, choices):
            cell = built(f"experiment={name}", f"scale={scale}", *words)
            assert cell.study == name
            assert cell.plain["limit"] == limit


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_claim_stands_in_words_beside_its_published_numbers(name: str) -> None:
    folder = CONF.parent / "experiments" / name
    target = "reproduce-math500" if name == "math500" else name.replace("_", "-")
    assert f"make {target}" in (folder / "README.md").read_text()
    assert (folder / "published.csv").is_file()
