"""The entry point: cells from end to end on a tiny model and a data set of other field names, and errors that leave nothing behind."""

import json
import logging
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from local_lm_eval import write_tasks
from safetensors.torch import load_file
from tiny_models import WIDTH, save_folder

from ttsv import models, pipeline

pytestmark = pytest.mark.filterwarnings("ignore:'ttsv.run' found in sys.modules")

SECRET = "hf_thisTokenMustNotBeWrittenAnywhere"
TASK = """
_target_: ttsv.tasks.FileTask
name: mine
fields:
  _target_: ttsv.tasks.Fields
  question: exercise.text
  gold: result
  id: number
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


Invoke = Callable[..., Outcome]


def setting(folder: Path) -> list[str]:
    """A model folder, a data set and a task config in ``folder``; the overrides that use them at a tiny size."""
    save_folder(folder / "model", "qwen2")
    (folder / "data" / "mine").mkdir(parents=True)
    rows = [{"exercise": {"text": f"{n} + {n} ="}, "result": str(2 * n), "number": f"n{n}"} for n in range(6)]
    (folder / "data" / "mine" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "conf" / "task").mkdir(parents=True)
    (folder / "conf" / "task" / "mine.yaml").write_text(TASK)
    return [
        "--config-dir",
        str(folder / "conf"),
        "model=from_folder",
        f"model.path={folder / 'model'}",
        "model.name=tiny",
        "task=mine",
        f"data_dir={folder / 'data'}",
        f"results_dir={folder / 'results'}",
        "study=test",
        "recipe.dtype.adapt=float32",
        "recipe.optimization.length=3",
        "scale=mini",
        "scale.updates=3",
        "scale.epochs=2",
        "scale.rollout_tokens=5",
        "scale.evaluation_tokens=6",
        "prompt=question",
        "device=cpu",
    ]


def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]) -> Outcome:
    pipeline._source.cache_clear()  # each command is a process of its own
    models._held.clear()
    monkeypatch.setattr(sys, "argv", ["ttsv.run", *words])
    capsys.readouterr()
    code = 0
    try:
        # Hydra finds conf/ beside the file of a main module, and beside no other.
        runpy.run_module("ttsv.run", run_name="__main__")
    except SystemExit as stop:
        code = int(stop.code or 0)
    caught = capsys.readouterr()
    return Outcome(code, caught.out, caught.err)


@pytest.fixture
def invoke(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> Invoke:
    """Runs the entry point in this process, with every file it may write below the test's folder."""
    caplog.set_level(logging.INFO, "ttsv")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("TTSV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    return lambda *words: run_main(monkeypatch, capsys, list(words))


def records(results: Path) -> dict[tuple[str, int], dict[str, Any]]:
    found = [json.loads(f.read_text()) for f in sorted((results / "runs" / "test").glob("*.json"))]
    return {(r["facts"]["method"], r["facts"]["seed"]): r for r in found}


def test_a_sweep_runs_from_end_to_end_and_ends_in_one_table(invoke: Invoke, tmp_path: Path) -> None:
    base, results = setting(tmp_path), tmp_path / "results"
    torch.save({"weight": torch.ones(2, WIDTH)}, tmp_path / "prefix_embeddings.pt")
    sweep = ["method=none,untrained_prefix,ttsv,released_vector", f"vector={tmp_path}/prefix_embeddings.pt"]
    done = invoke("-m", *base, *sweep, "seed=15,16", "adapt_on=first_half")
    assert done.code == 0, done.err
    found = records(results)
    assert set(found) == {(m, s) for m in ("none", "untrained_prefix", "ttsv", "released_vector") for s in (15, 16)}

    # One table, with a row per method and seed, its mean, and both halves; what seeds share is one row.
    assert done.out.count("## tiny on mine, 6 problems") == 1
    frame = pd.read_csv(results / "runs" / "test" / "summary.csv")
    assert [m.partition(" (recipe.")[0] for m in frame[frame["half"] == "held-out"]["method"]] == [
        "none", *["untrained_prefix"] * 3, *["ttsv"] * 3, "released_vector"
    ]  # fmt: skip
    assert set(frame["half"]) == {"optimised", "held-out"}

    # Stages are shared: one adaptation of nothing, one greedy baseline, one released vector, a vector per seed.
    assert len([p for p in (results / "stages" / "adapt").glob("[!.]*")]) == 1 + 2 + 2 + 1
    assert found["none", 15]["stages"] == found["none", 16]["stages"]
    assert found["ttsv", 15]["stages"]["adapt"] != found["ttsv", 16]["stages"]["adapt"]
    assert not list(results.rglob(".work-*"))

    # Every record's files are there, and say what was asked.
    folder = results / "stages" / found["ttsv", 15]["stages"]["adapt"]
    assert load_file(folder / "vector.safetensors")["soft_prompt"].shape == (3, WIDTH)
    assert len((folder / "history.jsonl").read_text().splitlines()) == 3
    assert (folder / "log.txt").read_text()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert provenance["seeds"] == {"initialization": 15, "order": 15, "rollout": 15, "evaluation": 15}
    assert provenance["model"]["fingerprint"]
    assert provenance["task"]["sha256"]
    generation = results / "stages" / found["ttsv", 15]["stages"]["generate"]
    prompts = [json.loads(line) for line in (generation / "prompts.jsonl").read_text().splitlines()]
    assert [p["text"] for p in prompts] == [f"{n} + {n} =" for n in range(6)]
    samples = pd.read_parquet(results / "stages" / found["ttsv", 15]["stages"]["grade"] / "samples.parquet")
    assert list(samples["problem_id"]) == [f"n{n}" for n in range(6)]
    assert list(samples["gold"]) == [str(2 * n) for n in range(6)]
    assert len(found["ttsv", 15]["optimised_ids"]) == 3
    assert found["ttsv", 15]["config"]["recipe"]["optimization"]["length"] == 3

    # No secret of the environment is in any file.
    for file in [*results.rglob("*"), *(tmp_path / "cache").rglob("*")]:
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file

    # The same command again computes nothing.
    before = {f: f.stat().st_mtime_ns for f in (results / "stages").rglob("*") if f.is_file()}
    again = invoke("-m", *base, "method=none,ttsv", "seed=16", "adapt_on=first_half")
    assert again.code == 0, again.err
    assert {f: f.stat().st_mtime_ns for f in (results / "stages").rglob("*") if f.is_file()} == before


def test_the_paper_recipe_runs_from_end_to_end_on_other_architectures(invoke: Invoke, tmp_path: Path) -> None:
    base = setting(tmp_path)
    for architecture, tokens in (("llama", {"eos_token_id": [256, 258], "pad_token_id": None}), ("qwen3", {})):
        shutil.rmtree(tmp_path / "model")
        save_folder(tmp_path / "model", architecture, **tokens)
        paper = ["recipe=paper", "recipe.dtype.evaluate=float32", "method=ttsv", f"model.name={architecture}"]
        done = invoke(*base, *paper)
        assert done.code == 0, done.err
        assert f"## {architecture} on mine, 6 problems" in done.out
        assert "recipe paper, mini scale" in done.out


def test_every_method_runs_from_end_to_end_in_one_sweep(invoke: Invoke, tmp_path: Path) -> None:
    base = setting(tmp_path)
    methods = "em,em_lora,slot,ttsv_sample,random_prefix,text_prefix,shuffled_prefix,norm_matched_prefix,random_updates"
    done = invoke("-m", *base, f"method=none,untrained_prefix,ttsv,entropy_maximization,{methods}")
    assert done.code == 0, done.err
    found = records(tmp_path / "results")
    assert len(found) == 13
    for record in found.values():
        stages = tmp_path / "results" / "stages"
        assert len(pd.read_parquet(stages / record["stages"]["grade"] / "samples.parquet")) == 6


def test_activations_are_measured_where_an_adaptation_moves_them(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("-m", *setting(tmp_path), "method=none,ttsv,em_lora,slot", "measure=activations")
    assert "measure=activations sees nothing of method=slot" in done.err
    found = records(tmp_path / "results")
    assert set(found) == {("none", 15), ("ttsv", 15), ("em_lora", 15)}
    for (method, _), record in found.items():
        stage = tmp_path / "results" / "stages" / record["stages"]["activations"]
        moved = pd.read_parquet(stage / "drift.parquet")
        assert (moved["relative_shift"].max() > 0) == (method != "none")


def test_a_vector_is_evaluated_on_another_task_and_at_an_earlier_update(invoke: Invoke, tmp_path: Path) -> None:
    base, results = setting(tmp_path), tmp_path / "results"
    elsewhere = ["task@adapt_task=one_digit_sums", "limit=4", "recipe.optimization.save_every=1"]
    done = invoke("-m", *base, *elsewhere, "method=none,ttsv", "at_update=0,2,null")
    assert done.code == 0, done.err
    cells = [json.loads(f.read_text()) for f in sorted((results / "runs" / "test").glob("*.json"))]
    vectors = {c["facts"]["at_update"]: c for c in cells if c["facts"]["method"] == "ttsv"}
    assert set(vectors) == {0, 2, None}
    assert len({c["stages"]["adapt"] for c in vectors.values()}) == 1
    assert len({c["stages"]["generate"] for c in vectors.values()}) == 3
    assert {c["facts"]["adapt_task"] for c in vectors.values()} == {"one_digit_sums"}
    assert not any(c["optimised_ids"] for c in cells)
    assert "adapted on one_digit_sums" in done.out
    assert "at_update=2" in done.out
    # The diagonal is the ordinary cell.
    plain = invoke(*base, "limit=4", "method=ttsv", "recipe.optimization.save_every=1")
    same = invoke(*base, "limit=4", "method=ttsv", "recipe.optimization.save_every=1", "task@adapt_task=mine")
    assert (plain.code, same.code) == (0, 0)
    assert "grade reused" in same.err or "adapt, generate, grade, grade_second reused" in same.err
    missing = invoke(*base, *elsewhere, "method=ttsv", "at_update=7")
    assert missing.code == 2
    assert "kept were 0, 1, 2, 3" in missing.err


@pytest.mark.parametrize("recipe", ["corrected", "paper"])
def test_a_response_cut_at_a_cap_is_what_a_run_with_that_cap_gives(invoke: Invoke, tmp_path: Path, recipe: str) -> None:
    base = [*setting(tmp_path), f"recipe={recipe}", "recipe.dtype.evaluate=float32", "method=untrained_prefix"]
    base.append("grader=release")  # finds a number in any noise that holds one
    long = invoke(*base, "scale.evaluation_tokens=40", "reread=true")
    assert long.code == 0, long.err
    stages = tmp_path / "results" / "stages"
    (record,) = records(tmp_path / "results").values()
    reread = pd.read_parquet(stages / record["stages"]["reread"] / "reread.parquet")
    assert set(reread[reread["reading"] == "cap"]["cap"]) == {16, 32, 40}
    for cap in (16, 32):
        short = invoke(*base, f"scale.evaluation_tokens={cap}", f"study=short{cap}")
        assert short.code == 0, short.err
        (file,) = (tmp_path / "results" / "runs" / f"short{cap}").glob("*.json")
        samples = pd.read_parquet(stages / json.loads(file.read_text())["stages"]["grade"] / "samples.parquet")
        of_cap = reread[(reread["reading"] == "cap") & (reread["cap"] == cap)]
        for column in ("problem_id", "sample", "tokens", "boxed", "answer", "correct", "flag"):
            assert list(of_cap[column].fillna("")) == list(samples[column].fillna("")), (cap, column)
        assert of_cap["answer"].notna().any()
        assert list(of_cap["truncated"]) == list(samples["finish_reason"] == "length")
    again = invoke(*base, "scale.evaluation_tokens=40", "reread=true")
    assert "adapt, generate, grade, grade_second, reread reused" in again.err


def test_an_lm_eval_task_stands_in_the_same_table(invoke: Invoke, tmp_path: Path) -> None:
    base = [word for word in setting(tmp_path) if word != "task=mine"]
    words = [*base, "task=lm_eval/local_choice", f"task.include_path={write_tasks(tmp_path / 'tasks')}"]
    done = invoke("-m", *words, "method=none,untrained_prefix,em_lora,slot")
    assert "local_choice" in done.out
    found = records(tmp_path / "results")
    assert {m for m, _ in found} == {"none", "untrained_prefix", "em_lora"}
    assert "lm-eval tasks cannot be run with HiddenShift" in done.err
    frame = pd.read_csv(tmp_path / "results" / "runs" / "test" / "summary.csv")
    for method in ("none", "untrained_prefix", "em_lora"):
        stage = tmp_path / "results" / "stages" / found[method, 15]["stages"]["grade"]
        samples = pd.read_parquet(stage / "samples.parquet")
        (shown,) = frame[frame["method"].str.startswith(method)]["accuracy"]
        assert shown == pytest.approx(100 * samples["correct"].mean())


def test_a_cell_that_fails_in_the_middle_of_a_sweep_is_named_and_the_rest_goes_on(
    invoke: Invoke, tmp_path: Path
) -> None:
    done = invoke("-m", *setting(tmp_path), "method=none,released_vector,ttsv", "vector=/nowhere.pt")
    assert done.code == 2
    assert {m for m, _ in records(tmp_path / "results")} == {"none", "ttsv"}
    assert "1 cell failed" in done.err
    assert re.search(r"error: method=released_vector.*: no vector at /nowhere.pt", done.err)
    assert re.search(r"tries again:\n  no vector at /nowhere.pt.*\n    method=released_vector", done.err)


def test_an_unforeseen_error_in_one_cell_leaves_the_others_and_the_list(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ttsv.methods.none import NoPrefix

    def broken(*rest: Any) -> Any:
        raise RuntimeError("CUDA error: something")

    monkeypatch.setattr(NoPrefix, "adapt", broken)
    done = invoke("-m", *setting(tmp_path), "method=none,untrained_prefix")
    assert done.code == 2
    assert {m for m, _ in records(tmp_path / "results")} == {"untrained_prefix"}
    assert "1 cell failed" in done.err
    assert "RuntimeError: CUDA error: something" in done.err
    assert "untrained_prefix" in done.out


def test_cells_that_differ_have_records_of_their_own_and_none_loses_its_grades(invoke: Invoke, tmp_path: Path) -> None:
    base, runs = setting(tmp_path), tmp_path / "results" / "runs" / "test"
    assert invoke("-m", *base, "method=none", "seeds.evaluation=1,2").code == 0
    assert len(list(runs.glob("*.json"))) == 2
    assert invoke(*base, "method=none", "engine.keep_share=0.5").code == 0
    assert invoke(*base, "method=none", "model.end_tokens=['<|stop|>']").code == 0
    assert len(list(runs.glob("*.json"))) == 4
    assert invoke(*base, "method=none", "seeds.evaluation=1", "stop_after=adapt").code == 0
    assert invoke(*base, "method=none", "seeds.evaluation=1", "measure=activations").code == 0
    stages = [set(json.loads(f.read_text())["stages"]) for f in runs.glob("*.json")]
    assert len(stages) == 4
    assert all({"adapt", "generate", "grade", "grade_second"} <= found for found in stages)
    assert any("activations" in found for found in stages)


def test_a_method_for_each_problem_refuses_problems_it_never_saw(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke(*setting(tmp_path), "method=slot", "adapt_on=first_half")
    assert done.code == 2
    assert "3 problems have no vector of their own" in done.err
    assert "adapt_on=all" in done.err


def test_a_subset_is_the_same_for_every_arm(invoke: Invoke, tmp_path: Path) -> None:
    base, results = setting(tmp_path), tmp_path / "results"
    assert invoke("-m", *base, "method=none,untrained_prefix", "limit=3").code == 0
    found = records(results)
    ids = [
        list(pd.read_parquet(results / "stages" / found[m, 15]["stages"]["grade"] / "samples.parquet")["problem_id"])
        for m in ("none", "untrained_prefix")
    ]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 3


ERRORS = [
    (["model.path=/nowhere/at/all"], r"no model at /nowhere/at/all; expected a folder"),
    (
        ["recipe.optimization.learning_rate=abc"],
        r"recipe.optimization.learning_rate='abc': Input should be a valid number",
    ),
    (["recipe.optimization.length=abc"], r"recipe.optimization.length='abc': Input should be a valid integer"),
    (["recipe.optimization.length=2.5"], r"recipe.optimization.length=2.5: Input should be a valid integer"),
    (["recipe.optimization.length=0"], r"optimization.length=0 is out of range"),
    (["recipe.optimization.updates=0"], r"optimization.updates=0 is out of range"),
    (
        ["recipe.optimization.rollout.temperature=hot"],
        r"recipe.optimization.rollout.temperature='hot': Input should be",
    ),
    (["recipe.optimization.rollout.top_p=0"], r"sampling.top_p=0 is out of range"),
    (["recipe.optimization.entropy=renyi"], r"recipe.optimization.entropy='renyi': Input should be 'raw' or 'sampled'"),
    (["recipe.optimization.layout.order=sideways"], r"recipe.optimization.layout.order='sideways': Input should be"),
    (["recipe.evaluation.decoding.batch_size=x"], r"recipe.evaluation.decoding.batch_size='x': Input should be"),
    (["recipe.evaluation.samples=4"], r"evaluation.samples=4 with temperature 0"),
    (["recipe.dtype.adapt=float8"], r"dtype='float8' is unknown"),
    (["adapt_on=third_half"], r"adapt_on='third_half': Input should be 'all', 'first_half' or 'second_half'"),
    (["stop_after=never"], r"stop_after='never': Input should be 'adapt' or 'generate'"),
    (["seed=abc"], r"seed='abc': Input should be a valid integer"),
    (["seeds.order=abc"], r"seeds.order='abc': Input should be a valid integer"),
    (["limit=abc"], r"limit='abc': Input should be a valid integer"),
    (["limit=0"], r"limit is 0; expected at least 1"),
    (["checkpoint_every=0"], r"checkpoint_every=0: Input should be greater than or equal to 1"),
    (["device=tpu-ish"], r"device='tpu-ish' is unknown"),
    (["data_dir=/nowhere"], r"no file /nowhere/mine/test.jsonl"),
    (["+lenght=4"], r"unknown keys at the root: lenght"),
    (["model.thinking=false"], r"thinking=false has no effect with prompt=question, whose text is fixed"),
    (["aggregate=median"], r"aggregate='median': Input should be 'mean' or 'majority'"),
    (["at_update=-1"], r"at_update=-1: Input should be greater than or equal to 0"),
    (["task.fields.gold=solution"], r"test.jsonl:1"),
    (["method=released_vector"], r"needs a file: vector=FILE"),
    (["method=released_vector", "vector=/nowhere.pt"], r"no vector at /nowhere.pt"),
    (["recipe.optimization.max_prompt_tokens=3"], r"problem 'n0' of mine: its prompt has"),
]


@pytest.mark.parametrize(("words", "message"), ERRORS, ids=[" ".join(words) for words, _ in ERRORS])
def test_what_the_user_can_mend_ends_with_a_message_and_leaves_no_files(
    invoke: Invoke, tmp_path: Path, words: list[str], message: str
) -> None:
    done = invoke(*setting(tmp_path), *words)
    assert done.code == 2, done.err
    assert "error: " in done.err
    assert "Traceback" not in done.err
    assert re.search(message, done.err), done.err
    assert not (tmp_path / "results").exists()


def test_a_hub_model_without_an_id_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    base = [word for word in setting(tmp_path) if not word.startswith("model")]
    assert re.search(r"model.*id", invoke(*base, "model=from_hub").err.partition("error: ")[2].splitlines()[0])
    assert "Qwen" not in invoke(*base, "model=from_hub").err


@pytest.mark.parametrize("word", ["no_such_key=1", "recipe.optimization.no_such_option=1", "method=no_such_method"])
def test_unknown_keys_are_refused_and_named(invoke: Invoke, tmp_path: Path, word: str) -> None:
    done = invoke(*setting(tmp_path), word)
    assert done.code != 0
    assert "no_such" in done.err
    assert not (tmp_path / "results").exists()


def test_a_model_that_transformers_does_not_know_is_named(invoke: Invoke, tmp_path: Path) -> None:
    base = setting(tmp_path)
    (tmp_path / "model" / "config.json").write_text('{"model_type": "no_such_model"}')
    done = invoke(*base, "method=none")
    assert done.code == 2, done.err
    assert "transformers cannot load tiny from" in done.err
    assert not (tmp_path / "results").exists()


def test_a_damaged_result_is_named_and_not_used(invoke: Invoke, tmp_path: Path) -> None:
    base = setting(tmp_path)
    assert invoke(*base, "method=none").code == 0
    (completions,) = (tmp_path / "results" / "stages" / "generate").glob("[!.]*/completions.parquet")
    completions.write_bytes(completions.read_bytes() + b" ")
    done = invoke(*base, "method=none")
    assert done.code == 2
    assert f"{completions} was changed after it was written" in done.err


def test_a_changed_model_is_another_result(invoke: Invoke, tmp_path: Path) -> None:
    base = setting(tmp_path)
    assert invoke(*base, "method=none").code == 0
    shutil.rmtree(tmp_path / "model")
    save_folder(tmp_path / "model", "qwen2", seed=1)
    assert invoke(*base, "method=none").code == 0
    assert len(list((tmp_path / "results" / "stages" / "generate").glob("[!.]*"))) == 2


def test_the_module_runs_as_a_command_and_ends_with_2_where_the_model_is_missing(tmp_path: Path) -> None:
    words = ["model=from_folder", f"model.path={tmp_path}/nowhere", f"results_dir={tmp_path}/results"]
    environment = {**os.environ, "TTSV_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "ttsv.run", *words], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert "no model at" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
