"""The audit as a command: what is planted is found, every number is in a file, and what is missing is named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.auditing.conftest import released_row, write_completions, write_vector
from ttsv.audit import main

CODE = "Let us see.\n```python\nprint(2 + 2)\n```\n```output\n5\n```\n"
ROWS = [
    released_row(0, "5", r"It is \boxed{5}.", True, level=1),
    released_row(1, "1,-2", r"They are \boxed{-2, 1}.", False, level=2),
    released_row(2, "4", CODE + r"So \boxed{4}.", True, level=2),
    released_row(3, "7", r"First \boxed{7}. " + "And on it goes. " * 10 + r"No, \boxed{8}.", False, level=1),
]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments that audit a release of one folder with ``ROWS``, with task data for three of the four."""
    root = tmp_path_factory.mktemp("audit")
    folder, data = root / "release" / "tiny_math500", root / "data" / "math500"
    write_vector(folder)
    write_completions(folder, ROWS)
    data.mkdir(parents=True)
    problems = [{"problem": f"question {i}", "answer": ROWS[i]["answer"], "subject": "Algebra"} for i in range(3)]
    (data / "test.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    return ["--release", str(root / "release"), "--data-dir", str(data.parent)]


@pytest.fixture(scope="module")
def audited(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the audit wrote."""
    out = tmp_path_factory.mktemp("out")
    assert main([*command, "--out", str(out)]) == 0
    return out


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_was_planted_is_found(audited: Path) -> None:
    (disagreement,) = read_jsonl(audited / "disagreements.jsonl")
    assert (disagreement["line"], disagreement["released"], disagreement["math_verify"]) == (2, False, True)
    (refuted,) = read_jsonl(audited / "tool_outputs_refuted.jsonl")
    assert (refuted["line"], refuted["output"], refuted["computed"]) == (3, "5", "4")
    changed = pd.read_csv(audited / "readings.csv").set_index(["reading", "line"])
    assert changed.loc[("up to the first closed box", 4), "math_verify after"] == 1
    vector = pd.read_csv(audited / "vector_summary.csv").iloc[0]
    assert vector["best_candidate"] == "nn.Embedding(L, d), first draw, seed 7"
    assert vector["relative_drift"] == pytest.approx(0.05, abs=0.003)


def test_rates_count_what_the_rows_hold(audited: Path) -> None:
    rates = pd.read_csv(audited / "rates.csv", keep_default_na=False).set_index(["measure", "group", "value"])
    counted = rates[["count", "n"]].astype(int).apply(tuple, axis=1)
    assert counted["released", "all", ""] == (2, 4)
    assert counted["math_verify", "all", ""] == (3, 4)
    assert counted["share", "Python block", "yes"] == (1, 4)
    assert counted["math_verify", "Python block", "yes"] == (1, 1)
    assert counted["math_verify", "Python block", "no"] == (2, 3)
    assert counted["math_verify", "level", "2"] == (2, 2)
    assert counted["math_verify", "subject", "Algebra"] == (3, 3)
    assert counted["agreement with released", "grader", "math_verify"] == (3, 4)


def test_the_page_names_files_hashes_lines_and_figures_that_exist(audited: Path) -> None:
    page = (audited / "README.md").read_text(encoding="utf-8")
    inputs = pd.read_csv(audited / "inputs.csv")
    assert len(inputs) == 3
    assert all(f"`{name}`" in page for name in [*inputs["file"], *inputs["sha256"]])
    assert 'TASK=math500 SCALE=full VECTOR=<release>/tiny_math500/prefix_embeddings.pt SEEDS="7 8 9' in page
    assert "| 2 " in page
    assert "| `1,-2` " in page
    assert "Questions found in the task data with the same gold answer: `tiny_math500` 3 of 4." in page
    linked = {part.partition(")")[0] for part in page.split("](")[1:]}
    assert linked
    assert all((audited / name).is_file() for name in linked if "://" not in name)


def test_the_same_files_give_the_same_bytes(audited: Path, command: list[str], tmp_path: Path) -> None:
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in audited.iterdir()
    }


def test_a_clone_is_searched_at_any_depth_and_absent_parts_are_named(tmp_path: Path) -> None:
    write_completions(tmp_path / "clone" / "outputs" / "eval" / "tiny_math500", ROWS[:1])
    write_vector(tmp_path / "clone" / "vectors" / "run" / "tiny_math500")
    out = tmp_path / "out"
    assert main(["--release", str(tmp_path / "clone"), "--out", str(out)]) == 0
    page = (out / "README.md").read_text(encoding="utf-8")
    assert "`outputs/eval/tiny_math500` holds no `prefix_embeddings.pt`" in page
    assert "`vectors/run/tiny_math500` holds no `completions.jsonl`" in page


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["holds no released files", "notes.txt", "prefix_embeddings.pt", "completions.jsonl"]),
        ('{"idx": 0}\n', ["completions.jsonl:1", "'question'"]),
        (json.dumps(ROWS[0]) + "\nversion https://git-lfs", ["completions.jsonl:2", "not JSON", "git lfs pull"]),
        (json.dumps({**ROWS[0], "score": []}), ["completions.jsonl:1", "'score'"]),
        ("\n", ["completions.jsonl", "no rows"]),
    ],
)
def test_what_cannot_be_audited_is_named(
    content: str | None, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ("notes.txt" if content is None else "completions.jsonl")).write_text(content or "")
    assert main(["--release", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message


def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--release", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_an_audit_loads_no_transformers() -> None:
    program = "import sys, ttsv.audit; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
