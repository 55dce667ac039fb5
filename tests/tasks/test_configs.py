"""Every task config builds, documents itself, and reads its data."""

import re
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "conf" / "task").glob("*.yaml"))
GENERATED = [path for path in CONFIGS if "ttsv.tasks.GymTask" in path.read_text(encoding="utf-8")]
DOWNLOADED = [path for path in CONFIGS if path not in GENERATED]
EXPECTED = {
    "math500": (500, r"\left( 3, \frac{\pi}{2} \right)"),
    "amc23": (40, "27"),
    "aime24": (30, "204"),
    "minerva_math": (272, "1.6"),
    "olympiadbench": (675, "2"),
    "gsm8k": (1319, "18"),
}


def build(path: Path):
    return instantiate(OmegaConf.load(path), _convert_="all")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_named_like_its_file_and_begins_by_saying_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert build(path).name == path.stem


@pytest.mark.parametrize("path", DOWNLOADED, ids=lambda path: path.stem)
def test_hub_revision_is_a_whole_commit(path):
    assert re.fullmatch("[0-9a-f]{40}", build(path).hub.revision)


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.stem)
def test_generated_task_yields_its_size_in_distinct_questions(path):
    task = build(path)
    assert len({problem.question for problem in task.load()}) == task.size


@pytest.mark.parametrize("name", EXPECTED)
def test_released_copy_is_read_whole_with_the_gold_answers_alone(name, shared):
    (path,) = [path for path in CONFIGS if path.stem == name]
    problems = build(path).load(shared / "data")
    assert (len(problems), problems[0].gold) == EXPECTED[name]
    assert not [problem for problem in problems if "boxed" in problem.gold or re.search(r"(?<!\\)\$", problem.gold)]


def test_local_math500_is_the_file_that_the_pinned_revision_holds(shared):
    (path,) = [path for path in CONFIGS if path.stem == "math500"]
    sha256 = build(path).read(shared / "data").provenance["sha256"]
    assert sha256 == "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132"
