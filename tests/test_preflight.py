"""The preflight: what it counts, what it says, and that it refuses before anything is written."""

from pathlib import Path

import psutil
import pytest
import torch
from tiny_models import evaluation, recipe, save_folder, tiny_model

from ttsv import machine, preflight
from ttsv.cost import MEAN_PROMPT_TOKENS, Work, answers_of, work_of
from ttsv.machine import Machine
from ttsv.preflight import Report, check
from ttsv.provenance import collect, redact
from ttsv.weights import ModelConfig

CPU = torch.device("cpu")
FP32 = (torch.float32, torch.float32)


def checked(
    folder: Path, memory: int = 2**40, work: Work | None = None, dtypes: tuple[torch.dtype, torch.dtype] = FP32
) -> Report:
    work = work or work_of(recipe("paper"), 30, MEAN_PROMPT_TOKENS, 3)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preflight, "measure", lambda *args: Machine(CPU, 1e12, 1e10, memory))
        answers = answers_of(evaluation("paper"), 30, MEAN_PROMPT_TOKENS)
        return check(ModelConfig("tiny", path=str(folder)), CPU, dtypes, work, answers, 30, 30)


def test_a_model_that_fits_is_described_and_nothing_is_missing(tmp_path: Path) -> None:
    report = checked(save_folder(tmp_path / "m"))
    assert report.missing is None
    text = "\n".join(report.lines)
    assert "about 1 minute for this cell" in text
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


@pytest.mark.parametrize(("has", "slow"), [(True, []), (False, ["bfloat16"])])
def test_a_dtype_that_the_processor_has_no_instructions_for_is_named(
    has: bool, slow: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    lines = checked(save_folder(tmp_path / "m"), dtypes=(torch.bfloat16, torch.float32)).lines
    named = [line for line in lines if "no instructions for" in line]
    assert [dtype for dtype in ("bfloat16", "float16") if any(f"for {dtype}," in line for line in named)] == slow


def test_a_missing_model_is_missing_and_not_an_exception(tmp_path: Path) -> None:
    report = checked(tmp_path / "nowhere")
    assert report.missing is not None
    assert "no model at" in report.missing


def test_the_machine_is_measured_in_plausible_numbers() -> None:
    measured = machine.measure(CPU, torch.float32)
    assert 1e8 < measured.flops < 1e15
    assert 1e8 < measured.bandwidth < 1e13
    assert 0 < measured.memory <= psutil.virtual_memory().total


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
    assert checked(folder, work=Work(host_bytes=24)).missing is None
    found = checked(folder, work=Work(host_bytes=memory // count + memory // count // 2)).missing
    assert found is not None
    assert "Use method=em_lora" in found


def test_a_method_that_optimises_nothing_is_not_said_to(tmp_path: Path) -> None:
    lines = checked(save_folder(tmp_path / "m"), work=Work()).lines
    assert "problems   30" in lines
    assert not any("update" in line or "rollout" in line for line in lines)
