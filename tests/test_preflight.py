"""The preflight: what it counts, what it says, and that it refuses before anything is written."""

from pathlib import Path

import psutil
import pytest
import torch
from tiny_models import evaluation, recipe, save_folder, tiny_model

from ttsv import preflight
from ttsv.preflight import MEAN_PROMPT_TOKENS, Machine, Report, amount, check, hours, memory_needed
from ttsv.provenance import collect, redact
from ttsv.weights import ModelConfig

CPU = torch.device("cpu")
FP32 = (torch.float32, torch.float32)


def checked(folder: Path, memory: int = 2**40) -> Report:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preflight, "measure", lambda *args: Machine(CPU, 1e12, 1e10, memory))
        return check(ModelConfig("tiny", path=str(folder)), CPU, FP32, recipe("paper"), evaluation("paper"), 30, 30)


def test_tokens_are_counted_at_their_most() -> None:
    paper = recipe("paper", length=20)
    work = amount(paper, evaluation("paper"), 30, 30)
    assert work.updates == 40
    assert work.rollout_tokens == 40 * 16 * 6
    assert work.loss_tokens == 40 * 16 * (20 + MEAN_PROMPT_TOKENS + 6)
    assert work.evaluation_tokens == 30 * 3072
    assert work.evaluation_steps == 3072
    assert amount(None, evaluation("paper"), 30, 30).updates == 0


def test_time_is_bound_by_the_slower_of_arithmetic_and_reading() -> None:
    work = amount(None, evaluation("paper"), 30, 30)
    by_reading = hours(work, 1e9, 2, Machine(CPU, 1e30, 1e9, 0))
    assert by_reading == pytest.approx(3072 * 1e9 * 2 / 1e9 / 3600)
    by_arithmetic = hours(work, 1e9, 2, Machine(CPU, 1e12, 1e30, 0))
    assert by_arithmetic == pytest.approx(30 * 3072 * 2 * 1e9 / 1e12 / 3600)


def test_memory_holds_the_weights_and_the_larger_of_cache_and_loss() -> None:
    config, options = tiny_model().config, recipe("paper")
    weights_alone = 1e6 * 4
    without = memory_needed(config, 1e6, 4, None, evaluation("paper"))
    assert without == weights_alone + 64 * (MEAN_PROMPT_TOKENS + 3072) * 2 * 2 * 2 * 8 * 4
    assert memory_needed(config, 1e6, 4, options, evaluation("paper")) >= without


def test_a_model_that_fits_is_described_and_nothing_is_missing(tmp_path: Path) -> None:
    report = checked(save_folder(tmp_path / "m"))
    assert report.missing is None
    text = "\n".join(report.lines)
    for words in ("on disk", "40 updates", "problems   30, of which 30 to optimise on", "float32", "free"):
        assert words in text


def test_weights_that_do_not_fit_are_refused_with_a_remedy(tmp_path: Path) -> None:
    report = checked(save_folder(tmp_path / "m"), memory=1000)
    assert report.missing is not None
    assert "the weights of tiny alone need" in report.missing
    assert "smaller model" in report.missing


def test_a_batch_that_may_not_fit_is_warned_of(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "m")
    report = checked(folder, memory=sum(f.stat().st_size for f in folder.glob("*.safetensors")) + 1000)
    assert report.missing is None
    assert "that may not fit" in report.lines[-1]


def test_a_missing_model_is_missing_and_not_an_exception(tmp_path: Path) -> None:
    report = checked(tmp_path / "nowhere")
    assert report.missing is not None
    assert "no model at" in report.missing


def test_the_machine_is_measured_in_plausible_numbers() -> None:
    machine = preflight.measure(CPU, torch.float32)
    assert 1e8 < machine.flops < 1e15
    assert 1e8 < machine.bandwidth < 1e13
    assert 0 < machine.memory <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run token=abc123 x=1", "run token=*** x=1"),
        ("hub.api_key: s3cret", "hub.api_key: ***"),
        ("a hf_abcdefghijkl b", "a hf_*** b"),
        ("scale.rollout_tokens=48 model.path=x", "scale.rollout_tokens=48 model.path=x"),
    ],
)
def test_secrets_on_the_command_line_are_taken_out_and_nothing_else_is(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_provenance_says_with_what_a_result_was_made_and_holds_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "its value is nobody's business")
    found = collect(CPU)
    assert found["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert found["hardware"]["device"] == "cpu"
    assert set(found["git"]) == {"commit", "modified"}
    assert "nobody's business" not in str(found)


def test_a_method_that_moves_the_weights_is_refused_where_the_host_cannot_hold_its_state(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "model")
    count = sum(p.numel() for p in tiny_model().parameters())
    memory = psutil.virtual_memory().available
    arguments = (ModelConfig("tiny", path=str(folder)), CPU, FP32, recipe("paper"), evaluation("paper"), 30, 30)
    assert check(*arguments, 24).missing is None
    found = check(*arguments, memory // count + memory // count // 2).missing
    assert found is not None
    assert "Use method=em_lora" in found
