"""Every file of conf/ composes and builds, so that no choice that the README lists is a dead letter."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from ttsv.config import build, component

CONF = Path(__file__).resolve().parents[1] / "conf"
NEEDED = {"model=from_hub": ["model.id=a/b"], "model=from_folder": ["model.path=folder"]}
CHOICES = [
    f"{group}={file.stem}"
    for group in ("model", "task", "prompt", "method", "recipe", "scale", "engine", "grader", "tracking", "experiment")
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
