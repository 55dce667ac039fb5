"""The W&B mirror, with the real library: what it writes is what the files hold, and its failures cost a run nothing."""

import json
import logging
import re
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wandb
from offline_records import OfflineRun, read_all
from test_run import setting
from wandb.sdk.lib import wbauth
from wandb_server import serving

from ttsv.figures.style import figure
from ttsv.records import UserError
from ttsv.study import read_study
from ttsv.tables import comparison
from ttsv.tracking import WandbMirror
from ttsv.upload import main

pytestmark = pytest.mark.filterwarnings("ignore:'ttsv.run' found in sys.modules")

WANDB_KEY, HF_TOKEN = "0123456789" * 4, "hf_thisTokenMustNotBeWrittenAnywhere"
METHODS = ("none", "untrained_prefix", "ttsv")


def run(*words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ttsv.run", *words])
        # Hydra finds conf/ beside the file of a main module, and beside no other.
        runpy.run_module("ttsv.run", run_name="__main__")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Whatever wandb keeps outside the folder that it is given lies here; a key and a token are in the environment."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"WANDB_{name}_DIR", str(folder / name))
        patch.setenv("NETRC", str(folder / "netrc"))
        patch.setenv("WANDB_API_KEY", WANDB_KEY)
        patch.setenv("HF_TOKEN", HF_TOKEN)
        yield folder


@pytest.fixture(scope="module")
def base(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return setting(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def results(base: list[str]) -> Path:
    """A sweep of three real cells with the mirror switched on, offline."""
    run("-m", *base, f"method={','.join(METHODS)}", "adapt_on=first_half", "tracking=wandb", "tracking.mode=offline")
    return Path(next(word for word in base if word.startswith("results_dir=")).partition("=")[2])


@pytest.fixture(scope="module")
def mirrored(results: Path) -> dict[str, OfflineRun]:
    """The sweep's W&B runs, by job type."""
    found = {offline.run.job_type: offline for offline in read_all(results)}
    assert set(found) == {*METHODS, "summary"}
    return found


def record(results: Path, method: str) -> dict[str, Any]:
    (file,) = (results / "runs" / "test").glob(f"*-{method.replace('_', '-')}-seed15-*.json")
    return {**json.loads(file.read_text()), "name": file.stem}


def stage(results: Path, method: str, name: str) -> Path:
    return results / "stages" / record(results, method)["stages"][name]


def rows_of(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as JSON gives them back, missing values as None."""
    return [
        {
            str(k): None if pd.isna(v) else str(v) if isinstance(v, str) else getattr(v, "item", lambda v=v: v)()
            for k, v in row.items()
        }
        for row in frame.to_dict("records")
    ]


def test_the_history_is_that_of_the_adapt_stage_with_the_update_as_step(
    results: Path, mirrored: dict[str, OfflineRun]
) -> None:
    rows = [json.loads(line) for line in (stage(results, "ttsv", "adapt") / "history.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    history = mirrored["ttsv"].history
    assert [row["_step"] for row in history] == [row["update"] for row in history] == [1, 2, 3]
    for mine, theirs in zip(rows, history, strict=True):
        assert {name: theirs[f"adapt/{name}"] for name in mine if name != "update"} == pytest.approx(
            {name: value for name, value in mine.items() if name != "update"}
        )
    assert mirrored["ttsv"].step_metrics["adapt/*"] == "update"
    assert not any("update" in row for row in mirrored["none"].history)


def test_the_summary_is_what_the_stages_measured(results: Path, mirrored: dict[str, OfflineRun]) -> None:
    for method in METHODS:
        summary = mirrored[method].summary
        for name in ("grade", "grade_second"):
            metrics = json.loads((stage(results, method, name) / "metrics.json").read_text())
            flags = metrics.pop("flags")
            assert {key: summary[f"{name}/{key}"] for key in metrics} == pytest.approx(metrics)
            assert {key: summary[f"{name}/flags/{key}"] for key in flags} == flags
        adaptation = json.loads((stage(results, method, "adapt") / "adaptation.json").read_text())
        assert {key: summary[f"adaptation/{key}"] for key in adaptation} == adaptation


def test_a_run_is_described_by_its_record_and_its_provenance(results: Path, mirrored: dict[str, OfflineRun]) -> None:
    for method in METHODS:
        kept, offline = record(results, method), mirrored[method]
        assert {key: offline.config[key] for key in kept["config"]} == kept["config"]
        assert offline.config["facts"] == kept["facts"]
        assert offline.config["stages"] == kept["stages"]
        for name, provenance in offline.config["provenance"].items():
            assert provenance == json.loads((stage(results, method, name) / "provenance.json").read_text())
        assert (offline.run.run_group, offline.run.job_type, offline.run.project) == ("test", method, "ttsv")
        assert offline.run.display_name == kept["name"]
        assert {"tiny", "mine", "corrected", "mini"} <= set(offline.run.tags)


def test_the_sample_table_holds_the_graded_samples(results: Path, mirrored: dict[str, OfflineRun]) -> None:
    samples = pd.read_parquet(stage(results, "ttsv", "grade") / "samples.parquet")
    rows = rows_of(mirrored["ttsv"].table("samples"))
    assert len(rows) == len(samples) == mirrored["ttsv"].summary["samples_total"] == 6
    for column in (
        "problem_id",
        "question",
        "gold",
        "text",
        "answer",
        "correct",
        "flag",
        "why",
        "finish_reason",
        "tokens",
    ):
        assert [row[column] for row in rows] == [None if pd.isna(v) else v for v in samples[column]], column
    assert [row["mean_entropy"] for row in rows] == pytest.approx(list(samples["mean_entropy"]))
    second = pd.read_parquet(stage(results, "ttsv", "grade_second") / "samples.parquet")
    assert [row["graders_disagree"] for row in rows] == list(samples["correct"] != second["correct"])


def test_the_study_has_one_run_with_the_comparison_and_the_gains(
    results: Path, mirrored: dict[str, OfflineRun]
) -> None:
    groups, _ = read_study(results / "runs" / "test", results)
    (group,) = groups
    compared = comparison(group)
    rows = rows_of(mirrored["summary"].table("comparison"))
    assert [(r["half"], r["method"]) for r in rows] == list(zip(compared["half"], compared["method"], strict=True))
    for column in ("accuracy", "ci_low", "gain_none", "gain_untrained_prefix", "p_none", "tokens"):
        got = [np.nan if row[column] is None else row[column] for row in rows]
        assert got == pytest.approx(list(compared[column].astype(float)), nan_ok=True), column
    gains = rows_of(mirrored["summary"].table("relative_gains"))
    assert {(r["half"], r["method"].partition(" ")[0], r["baseline"]) for r in gains} == {
        (half, *pair)
        for half in ("optimised", "held-out")
        for pair in [("untrained_prefix", "none"), ("ttsv", "none"), ("ttsv", "untrained_prefix")]
    }
    assert all(row["title"] == group.title for row in [*rows, *gains])
    assert mirrored["summary"].run.run_group == "test"
    assert len(mirrored["summary"].config["runs"]) == 3


def test_no_key_and_nothing_of_the_machine_is_written(
    results: Path, mirrored: dict[str, OfflineRun], home: Path
) -> None:
    files = [file for file in [*results.rglob("*"), *home.rglob("*")] if file.is_file()]
    assert any(file.suffix == ".wandb" for file in files)
    assert any(file.name == "debug.log" for file in files)
    for file in files:
        content = file.read_bytes()
        assert WANDB_KEY.encode() not in content, file
        assert HF_TOKEN.encode() not in content, file
    for offline in mirrored.values():
        assert offline.run.host == ""
        assert not offline.run.HasField("git")
        assert not offline.kinds & {"environment", "stats", "output", "output_raw"}
        assert {path.name for path in (offline.folder / "files").iterdir()} <= {
            "media",
            "wandb-summary.json",
            "config.yaml",
        }


def test_the_mirror_decides_nothing(base: list[str], results: Path) -> None:
    kept = record(results, "ttsv")
    before = {file: file.stat().st_mtime_ns for file in (results / "stages").rglob("*") if file.is_file()}
    run(*base, "method=ttsv", "adapt_on=first_half")
    assert {file: file.stat().st_mtime_ns for file in (results / "stages").rglob("*") if file.is_file()} == before
    again = record(results, "ttsv")
    assert {key: again[key] for key in ("facts", "stages", "name")} == {
        key: kept[key] for key in ("facts", "stages", "name")
    }
    assert "wandb" not in json.dumps(
        [kept["facts"], [json.loads(f.read_text())["key"] for f in results.rglob("manifest.json")]]
    )


def test_a_finished_study_can_be_uploaded_later_as_the_same_runs_with_its_figures_and_tables(
    results: Path, mirrored: dict[str, OfflineRun], tmp_path: Path
) -> None:
    shutil.copytree(results / "runs", tmp_path / "results" / "runs")
    shutil.copytree(results / "stages", tmp_path / "results" / "stages")
    folder = tmp_path / "results" / "runs" / "test"
    with figure(folder / "figures" / "transfer") as drawn:
        drawn.subplots().imshow([[1, 2], [3, 4]])
    (folder / "transfer.csv").write_text("vector,gsm8k,math500\ngsm8k,1.5,\nmath500,-2,3\n")
    (folder / "empty.csv").write_text("")
    assert main([str(folder), "--mode=offline", f"--dir={tmp_path / 'out'}", "--sample-rows=4", "--project=other"]) == 0
    later = {offline.run.job_type: offline for offline in read_all(tmp_path / "out")}
    assert {name: offline.run.run_id for name, offline in later.items()} == {
        name: offline.run.run_id for name, offline in mirrored.items()
    }
    assert {offline.run.project for offline in later.values()} == {"other"}
    assert later["ttsv"].table("samples")["data"] == mirrored["ttsv"].table("samples")["data"][:4]
    assert (later["ttsv"].summary["samples_shown"], later["ttsv"].summary["samples_total"]) == (4, 6)
    assert later["summary"].table("comparison") == mirrored["summary"].table("comparison")
    assert later["summary"].table("tables/transfer") == {
        "columns": ["vector", "gsm8k", "math500"],
        "data": [["gsm8k", 1.5, None], ["math500", -2, 3]],
    }
    image = later["summary"].folder / "files" / later["summary"].summary["figures/transfer"]["path"]
    assert image.read_bytes() == (folder / "figures" / "transfer.png").read_bytes()
    assert set(later["summary"].summary) >= {"comparison", "relative_gains", "tables/transfer", "figures/transfer"}
    assert "tables/summary" not in later["summary"].summary


def test_seeds_and_methods_are_runs_of_their_own_and_grading_again_is_not(results: Path) -> None:
    from ttsv.tracking import _cell_id

    kept = record(results, "ttsv")
    same = _cell_id("test", kept)
    assert _cell_id("test", {**kept, "config": {}, "facts": {**kept["facts"], "grader_config": "other"}}) == same
    others = [
        ("elsewhere", kept),
        ("test", record(results, "none")),
        ("test", {**kept, "facts": {**kept["facts"], "seed": 16}}),
        ("test", {**kept, "stages": {**kept["stages"], "adapt": "adapt/ttsv-0000"}}),
    ]
    assert len({same, *(_cell_id(*other) for other in others)}) == 5


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A W&B server that nobody answers at; wandb keeps server, login and open runs for a whole process, so it is started afresh."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
    forget()
    yield
    forget()


def forget() -> None:
    wandb.teardown()
    wbauth.unauthenticate_session(update_settings=False)


@pytest.mark.parametrize("why", ["nobody is logged in", "unreachable", "no such folder"])
def test_a_failing_mirror_is_a_warning_that_names_the_command_for_later(
    results: Path,
    why: str,
    unreachable: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    mirror = WandbMirror(entity="team", dir=str(tmp_path), timeout=1)
    if why == "nobody is logged in":
        monkeypatch.delenv("WANDB_API_KEY")
    if why == "no such folder":
        (tmp_path / "file").write_text("")
        mirror = replace(mirror, dir=str(tmp_path / "file"), mode="offline")
    folder = results / "runs" / "test"
    with caplog.at_level(logging.WARNING, "ttsv"):
        assert not mirror.cell(next(folder.glob("*-ttsv-*.json")))
    assert f"python -m ttsv.upload {folder} --mode={mirror.mode} --project=ttsv --entity=team" in caplog.text
    assert why in caplog.text or why != "nobody is logged in"


def test_a_run_whose_mirror_fails_ends_as_any_other(
    base: list[str], results: Path, unreachable: None, caplog: pytest.LogCaptureFixture
) -> None:
    before = record(results, "ttsv")
    run(*base, "method=ttsv", "adapt_on=first_half", "tracking=wandb", "tracking.timeout=1")
    assert caplog.text.count("is not mirrored to W&B") == 2  # the run and its study
    after = record(results, "ttsv")
    assert {key: after[key] for key in ("facts", "stages")} == {key: before[key] for key in ("facts", "stages")}


def test_uploading_twice_goes_on_with_the_same_runs_and_logs_no_update_twice(
    results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = [str(results / "runs" / "test"), f"--dir={tmp_path}", "--timeout=20"]
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        forget()
        try:
            assert main(arguments) == 0
            ttsv = next(run for run in server.runs.values() if run.created["jobType"] == "ttsv")
            del ttsv.history[2]  # as if the first upload had been cut off after the second update
            ttsv.summary["_step"] = 2
            assert main(arguments) == 0
        finally:
            forget()
        runs = {run.created["jobType"]: run for run in server.runs.values()}
        assert set(runs) == {*METHODS, "summary"}
        assert len(server.runs) == 4
        assert [run.resumed for run in runs.values()] == [1] * 4
        assert [row["update"] for row in runs["ttsv"].history.values() if "update" in row] == [1, 2, 3]
        metrics = json.loads((stage(results, "ttsv", "grade") / "metrics.json").read_text())
        assert runs["ttsv"].summary["grade/accuracy"] == metrics["accuracy"]
        assert runs["ttsv"].created["groupName"] == "test"
        assert not runs["ttsv"].created["host"]
        for secret in (WANDB_KEY, HF_TOKEN, socket.gethostname()):
            words = re.compile(rb"\b" + re.escape(secret.encode()) + rb"\b")
            # A picture is compressed: a short name may stand in its bytes by chance.
            assert not [body for body in server.bodies if not body.startswith(b"\x89PNG") and words.search(body)]


def test_a_damaged_run_is_named_and_the_others_are_uploaded(
    results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(results / "runs", tmp_path / "results" / "runs")
    shutil.copytree(results / "stages", tmp_path / "results" / "stages")
    damaged = stage(tmp_path / "results", "none", "grade") / "samples.parquet"
    damaged.write_bytes(b"")
    folder = str(tmp_path / "results" / "runs" / "test")
    assert main([folder, "--mode=offline", f"--dir={tmp_path / 'out'}"]) == 2
    assert str(damaged) in caplog.text
    found = {offline.run.job_type: offline for offline in read_all(tmp_path / "out")}
    assert set(found) == {"untrained_prefix", "ttsv", "summary"}
    assert str(damaged) in found["summary"].summary["left_out"][0]


def test_an_upload_of_what_is_no_study_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "expected the folder of a study" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"sample_rows": 10_001}, {"sample_rows": -1}, {"timeout": 0}])
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"tracking.{next(iter(wrong))}"):
        WandbMirror(**wrong)


def test_wandb_is_imported_only_where_something_is_mirrored() -> None:
    code = "import sys, ttsv.tracking, ttsv.upload; assert not {'wandb', 'torch', 'hydra'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
