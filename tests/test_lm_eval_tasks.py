import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluate as scripts
import pandas as pd
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from local_lm_eval import CHOICES, SUMS, write_tasks
from tiny_models import WIDTH, composed, decoding, ids_of, requests_of, save_folder, tiny_lm

from ttsv.adaptations import EmbeddingPrefix
from ttsv.config import component
from ttsv.engines.hf import HFEngine
from ttsv.lm_eval import __main__ as command
from ttsv.lm_eval import maths
from ttsv.lm_eval.harness import evaluate, lm_eval
from ttsv.lm_eval.loading import TASK_CONFIGS, _index, downloaded_code_refused
from ttsv.lm_eval.model import SoftPromptLM
from ttsv.lm_eval.task import LMEvalTask
from ttsv.prompts import render_prompts
from ttsv.records import UserError
from ttsv.scoring import MathVerifyGrader
from ttsv.soft_prompt import SoftPrompt
from ttsv.store import Store
from ttsv.tasks import subset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


def prefix(seed: int = 1) -> EmbeddingPrefix:
    return EmbeddingPrefix(SoftPrompt(torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(seed))))


def likelihoods(model: SoftPromptLM, row: dict[str, Any]) -> list[float]:
    pairs = [Instance("loglikelihood", {}, (row["question"], f" {option}"), 0) for option in row["options"]]
    return [ll for ll, _ in model.loglikelihood(pairs, True)]


@pytest.mark.parametrize("adaptation", [None, prefix()], ids=["none", "prefix"])
def test_a_multiple_choice_row_is_right_if_the_gold_option_is_the_likeliest(
    folder: str, adaptation: EmbeddingPrefix | None
) -> None:
    lm, task = tiny_lm(), LMEvalTask("local_choice", include_path=folder)
    problems = task.load()
    assert [p.question for p in problems] == [row["question"] for row in CHOICES]
    assert [p.gold for p in problems] == [row["options"][row["label"]] for row in CHOICES]
    samples = evaluate(task, problems, lm, adaptation, batch_size=4)
    model = SoftPromptLM.around(lm, adaptation)
    for row, sample in zip(CHOICES, samples.to_dict("records"), strict=True):
        found = likelihoods(model, row)
        best = found.index(max(found))
        assert sample["text"] == row["options"][best]
        assert sample["correct"] == float(best == row["label"])
        relative = [ll / len(option) for ll, option in zip(found, row["options"], strict=True)]
        normalised = relative.index(max(relative)) == row["label"]
        assert json.loads(sample["scores"]) == {"acc_norm,none": float(normalised), "acc,none": sample["correct"]}
    by_length = evaluate(replace(task, metric="acc_norm"), problems, lm, adaptation)
    assert list(by_length["correct"]) == [json.loads(text)["acc_norm,none"] for text in samples["scores"]]


@pytest.mark.parametrize("adaptation", [None, prefix()], ids=["none", "prefix"])
def test_a_generated_row_holds_what_the_model_wrote_and_lm_evals_score(
    folder: str, adaptation: EmbeddingPrefix | None
) -> None:
    lm, task = tiny_lm(), LMEvalTask("local_sums", include_path=folder)
    problems = task.load()
    samples = evaluate(task, problems, lm, adaptation, batch_size=3)
    wanted = {"until": ["\n"], "do_sample": False, "max_gen_toks": 9}
    requests = [Instance("generate_until", {}, (row["question"], dict(wanted)), i) for i, row in enumerate(SUMS)]
    assert list(samples["text"]) == SoftPromptLM.around(lm, adaptation).generate_until(requests, True)
    assert list(samples["gold"]) == [row["answer"] for row in SUMS]
    assert list(samples["correct"]) == [float(t == g) for t, g in zip(samples["text"], samples["gold"], strict=True)]
    assert list(samples["tokens"]) == [len(ids_of(lm, text)) for text in samples["text"]]


def test_a_row_does_not_depend_on_which_others_are_evaluated(folder: str) -> None:
    lm, task = tiny_lm(), LMEvalTask("local_choice", include_path=folder)
    problems = task.load()
    chosen = subset(problems, 3, seed=0)
    assert [p.id for p in chosen] != [p.id for p in problems[:3]]
    every, some = evaluate(task, problems, lm, prefix()), evaluate(task, chosen, lm, prefix())
    expected = every[every["problem_id"].isin([p.id for p in chosen])].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected)


@pytest.mark.parametrize("name", ["local_code", "local_script", "local_group"])
def test_a_task_that_would_run_code_is_refused_before_anything_of_it_is_loaded(
    folder: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttsv.lm_eval.loading.TaskManager.load", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr("ttsv.lm_eval.loading._manager", lambda _, path, data: _index(path, data, False))
    with pytest.raises(UserError, match=r"local_(code|script) is not run"):
        LMEvalTask(name, include_path=folder).load()


def test_a_script_of_the_hub_is_refused_when_a_tasks_own_function_fetches_it() -> None:
    original = scripts.load
    with downloaded_code_refused(), pytest.raises(UserError, match="fetches the script 'code_eval'"):
        scripts.load("code_eval")
    assert scripts.load is original


def test_a_score_of_a_whole_corpus_is_refused_and_the_command_for_it_named(folder: str) -> None:
    task = LMEvalTask("local_text", include_path=folder)
    with pytest.raises(UserError, match=r"no score in \[0, 1\].*python -m ttsv.lm_eval"):
        evaluate(task, task.load(), tiny_lm(), prefix())
    choice = LMEvalTask("local_choice", include_path=folder, metric="f1")
    with pytest.raises(UserError, match=r"metric f1.*acc_norm"):
        evaluate(choice, choice.load(), tiny_lm(), None)


def test_an_evaluation_is_computed_once_for_each_adaptation_and_stands_in_the_store(
    folder: str, tmp_path: Path
) -> None:
    lm, task, store = tiny_lm(), LMEvalTask("local_sums", include_path=folder), Store(tmp_path)
    problems, loaded = task.load(), []

    def load() -> Any:
        loaded.append(1)
        return lm

    def once(adaptation: EmbeddingPrefix | None) -> Any:
        return lm_eval(store, "x", task, problems, adaptation, {"model": "tiny"}, load, dict)

    first, second, again = once(prefix()), once(None), once(prefix())
    assert (len(loaded), first.reused, again.reused) == (2, False, True)
    assert first.stage.path == again.stage.path != second.stage.path
    samples = pd.read_parquet(first.stage.path / "samples.parquet")
    written = json.loads((first.stage.path / "metrics.json").read_text())
    assert written["accuracy"] == pytest.approx(samples["correct"].mean())
    assert list(samples["text"]) == list(evaluate(task, problems, lm, prefix())["text"])


def test_our_problems_are_graded_by_our_graders(tmp_path: Path) -> None:
    row = {"problem": "What is a half?", "answer": r"\frac{1}{2}", "unique_id": "h", "subject": "S", "level": 1}
    (tmp_path / "math500").mkdir()
    (tmp_path / "math500" / "test.jsonl").write_text(json.dumps(row) + "\n")
    task = LMEvalTask("ttsv_math500")
    (problem,) = task.load(tmp_path)
    assert problem.gold == row["answer"]
    assert (
        problem.question == "What is a half?\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    doc = maths.problems("math500", str(tmp_path))["test"][0]
    assert maths.grade(doc, [r"so \boxed{0.5}"]) == {"exact_match": 1.0, "no_verdict": 0.0}
    assert maths.grade(doc, [r"so \boxed{0.25}"]) == {"exact_match": 0.0, "no_verdict": 0.0}
    assert maths.grade({**doc, "gold": "100", "relative_tolerance": 0.05}, [r"\boxed{102}"])["exact_match"] == 1.0
    assert maths.grade_choice({"gold": "B"}, [r"\boxed{\text{(B)}}"])["exact_match"] == 1.0
    with pytest.raises(UserError, match="math500"):
        LMEvalTask("ttsv_math500").load(tmp_path / "nowhere")


def test_our_problems_give_the_same_verdicts_as_in_the_rest_of_the_package() -> None:
    lm, task = tiny_lm(), LMEvalTask("ttsv_one_digit_sums")
    problems = subset(task.load(), 6, seed=0)
    task.prepared()["ttsv_one_digit_sums"].set_config("generation_kwargs", {"max_gen_toks": 10}, update=True)
    samples = evaluate(task, problems, lm, prefix())
    own = {f"ttsv_one_digit_sums/{i}": p for i, p in enumerate(component(composed().task, "task").load(None))}
    template = component(composed("prompt=question_boxed").prompt, "prompt")
    prompts = render_prompts([own[p.id] for p in problems], template, lm.tokenizer, 2048)
    done: dict[int, Any] = {}
    for batch in HFEngine().generate(lm, requests_of(prompts), prefix(), decoding(10)):
        done |= batch
    written = [done[i].text for i in range(len(prompts))]
    assert list(samples["text"]) == written
    assert list(samples["gold"]) == [own[p.id].gold for p in problems]
    verdicts = MathVerifyGrader().grade(list(samples["gold"]), written)
    assert list(samples["correct"]) == [float(v.correct) for v in verdicts]


def test_any_name_after_lm_eval_is_a_task_config(folder: str) -> None:
    config = composed("task=lm_eval/local_choice", f"task.include_path={folder}", "task.num_fewshot=2")
    task = component(config.task, "task")
    assert task == LMEvalTask("local_choice", num_fewshot=2, include_path=folder)
    questions = [problem.question for problem in task.load()]
    assert all(question.count(" is") == 3 for question in questions)
    assert questions == [problem.question for problem in task.load()]
    with pytest.raises(UserError, match="num_fewshot"):
        component(composed("task=lm_eval/x", "task.num_fewshot=many").task, "task")


def test_every_task_config_of_ours_names_problems_that_exist() -> None:
    for file in TASK_CONFIGS.glob("*.yaml"):
        assert (maths.CONF / file.name).is_file()
        assert f"task: ttsv_{file.stem}\n" in file.read_text()


def test_lm_evals_command_line_knows_our_model_type(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_folder(tmp_path / "model")
    prefix().soft_prompt.save(tmp_path / "v.safetensors")
    arguments = f"pretrained={model},soft_prompt={tmp_path / 'v.safetensors'},dtype=float32"
    line = [
        "ttsv.lm_eval",
        "--model",
        "ttsv",
        "--model_args",
        arguments,
        "--tasks",
        "local_choice",
        "--include_path",
        folder,
    ]
    line += ["--device", "cpu", "--log_samples", "--output_path", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", line)
    monkeypatch.setattr("lm_eval.tasks.TaskManager", _without_theirs)
    assert command.main() == 0
    assert "local_choice" in capsys.readouterr().out
    task = LMEvalTask("local_choice", include_path=folder)
    ours = evaluate(task, task.load(), tiny_lm(), prefix())
    (written,) = (tmp_path / "out").rglob("samples_local_choice*.jsonl")
    theirs = {row["doc_id"]: row["acc"] for row in map(json.loads, written.read_text().splitlines())}
    assert list(ours["correct"]) == [theirs[i] for i in range(len(theirs))]


def test_the_command_line_takes_no_option_that_runs_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--trust_remote_code", "--confirm_run_unsafe_code"):
        monkeypatch.setattr(sys, "argv", ["ttsv.lm_eval", "--model", "ttsv", "--tasks", "x", option])
        assert command.main() == 2
        assert option in capsys.readouterr().err


def _without_theirs(include_path: Any = None, **arguments: Any) -> TaskManager:
    return TaskManager(include_path=include_path, include_defaults=False, **arguments)
