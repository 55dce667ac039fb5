"""What runs on a card gives what the processor gives: steps replayed as graphs, loss, gradient, checkpointed layers."""

from typing import Any

import pytest
import torch
from tiny_models import ARCHITECTURES, WIDTH, decoding, recipe, requests_of, some_prompts, tiny_lm, with_ends
from transformers.modeling_outputs import CausalLMOutputWithPast

from ttsv.adaptations import Adaptation, EmbeddingPrefix, HiddenShift
from ttsv.engines import kv_cache, steps
from ttsv.engines.base import Decoding
from ttsv.engines.hf import HFEngine
from ttsv.loss import entropy_gradient
from ttsv.models import LanguageModel
from ttsv.records import Completion
from ttsv.soft_prompt import SoftPrompt

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

PROMPTS = some_prompts(6)
VECTORS = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(9))
ADAPTATIONS = {
    "a prefix": EmbeddingPrefix(SoftPrompt(VECTORS)),
    "a shift": HiddenShift(tuple(p.problem_id for p in PROMPTS), VECTORS.repeat(2, 1)),
}
NEVER = frozenset({10_000})
SAMPLED = {"temperature": 1.0, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.15}


def on(device: str, architecture: str = "qwen2") -> LanguageModel:
    lm = tiny_lm(architecture, torch.float64)
    lm.model.to(device)
    return lm


def written(
    lm: LanguageModel, rules: Decoding, adaptation: Adaptation | None, engine: HFEngine | None = None
) -> list[Completion]:
    (batch,) = (engine or HFEngine()).generate(lm, requests_of(PROMPTS), adaptation, rules)
    return [batch[i] for i in range(len(PROMPTS))]


@pytest.mark.parametrize("rules", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("adaptation", ADAPTATIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_replayed_steps_write_what_the_processor_writes(
    architecture: str, adaptation: str, rules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_cache, "ROOM", 8)
    captures, original = [], steps.StaticSteps._capture

    def counted(self: steps.StaticSteps) -> None:
        original(self)
        captures.append(self.captured)

    monkeypatch.setattr(steps.StaticSteps, "_capture", counted)
    models = {device: with_ends(on(device, architecture), NEVER) for device in ("cpu", "cuda")}
    expected, got = (written(lm, decoding(24, **rules), ADAPTATIONS[adaptation]) for lm in models.values())
    assert [c.token_ids for c in got] == [c.token_ids for c in expected]
    assert [c.mean_entropy for c in got] == pytest.approx([c.mean_entropy for c in expected], abs=1e-6)
    assert len(captures) > 2
    assert None not in captures
    ends = frozenset(c.token_ids[at] for c, at in zip(expected, (3, 5, 8, 13, 20, 23), strict=True))
    stopped, leaving = (
        written(with_ends(lm, ends), decoding(24, **rules), ADAPTATIONS[adaptation], HFEngine(1.0))
        for lm in models.values()
    )
    assert [c.token_ids for c in leaving] == [c.token_ids for c in stopped]


def test_a_model_that_no_graph_can_record_still_writes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected, lm = written(on("cpu"), decoding(10), None), on("cuda")
    forward = lm.model.forward

    def asking(*args: Any, **more: Any) -> CausalLMOutputWithPast:
        output: CausalLMOutputWithPast = forward(*args, **more)
        assert output.logits.isfinite().all().item()
        return output

    monkeypatch.setattr(lm.model, "forward", asking)
    for _ in range(2):
        got = written(lm, decoding(10), None)
        assert [c.token_ids for c in got] == [c.token_ids for c in expected]
    assert caplog.text.count("cannot be replayed as a CUDA graph") == 1


@pytest.mark.parametrize("name", ["paper", "corrected"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradient_are_those_of_the_processor(architecture: str, checkpointing: bool, name: str) -> None:
    responses = [[65 + n % 7, 66, *range(70, 70 + n % 5)] for n in range(len(PROMPTS))]
    options = recipe(name, activation_checkpointing=checkpointing)
    (expected, wanted), (got, gradient) = (
        entropy_gradient(on(device, architecture), VECTORS.double(), PROMPTS, responses, options)
        for device in ("cpu", "cuda")
    )
    assert got == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(gradient.cpu(), wanted, rtol=1e-4, atol=1e-6)  # entropies are summed in fp32
