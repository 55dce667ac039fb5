"""The documentation names nothing that is not there: files, headings, make targets, modules, settings and choices."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
)
MAKEFILE = (ROOT / "Makefile").read_text()
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TARGET = re.compile(r"(?:^|`|\s{4})make ([a-z][a-z0-9-]+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(page.read_text())]
    inside = [link for link in links if link and not link.startswith(("http://", "https://", "mailto:"))]
    assert [link for link in inside if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    claims = re.search(r"^CLAIMS := (.*?)(?<!\\)$", MAKEFILE, re.MULTILINE | re.DOTALL)
    assert claims
    known = {*re.findall(r"^([a-z][a-z0-9-]+):", MAKEFILE, re.MULTILINE), *claims[1].replace("\\", " ").split()}
    assert set(TARGET.findall(page.read_text())) - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_that_a_page_runs_can_be_run(page: Path) -> None:
    for module in set(re.findall(r"python -m (ttsv[\w.]*)", page.read_text())):
        found = find_spec(module)
        assert found is not None, module
        assert found.submodule_search_locations is None or find_spec(f"{module}.__main__"), module


def test_every_choice_of_a_group_stands_in_the_readme_and_every_one_named_there_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    for group in ("model", "task", "prompt", "method", "recipe", "grader", "scale", "tracking"):
        (row,) = re.findall(rf"^\| `{group}` \| (.*) \|$", readme, re.MULTILINE)
        files = {file.stem for file in (ROOT / "conf" / group).glob("*.yaml")}
        named = set(re.findall(r"`([a-z0-9_]+)`", row))
        assert files - named == set(), group
        assert group == "recipe" or named - files == set(), group  # its row names ladder steps too
