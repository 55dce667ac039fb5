"""The benchmark's two sides compute the same thing, and its fits and bounds are right."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_models import TEXT_END, TURN_END, WIDTH, decoding, evaluation, recipe, requests_of, some_prompts, tiny_lm
from transformers import AutoModelForCausalLM

from ttsv.adaptations import EmbeddingPrefix
from ttsv.bench import growth, random_weights, reference
from ttsv.bench.page import HISTORY, page
from ttsv.bench.work import AT_ONCE
from ttsv.engines import kv_cache
from ttsv.engines.hf import HFEngine
from ttsv.loss import entropy_gradient
from ttsv.models import dimensions_of
from ttsv.placement import group_by_length
from ttsv.records import UserError
from ttsv.soft_prompt import SoftPrompt

STOPS = ("</s>", "<|im_end|>", "<|endoftext|>")
INSIDE = {
    "pad_token_id": TURN_END,
    "eos_token_id": TURN_END,
    "tokenizer": {"pad_token": "<|im_end|>", "eos_token": "<|im_end|>"},
}


def vectors_of(length: int = 4) -> torch.Tensor:
    return torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize("tokens", [{}, INSIDE], ids=["pad outside the text", "pad inside the prompt"])
@pytest.mark.parametrize("rows", [3, 16])
def test_both_sides_have_the_same_loss_and_gradient(architecture: str, tokens: dict[str, object], rows: int) -> None:
    lm, prompts = tiny_lm(architecture, torch.float64, **tokens), some_prompts(rows)
    responses = [[65 + n % 7, 66, 67 + n % 3, *([TEXT_END] if n % 2 else [])] for n in range(rows)]
    expected, gradient = reference.loss(lm, prompts, responses, vectors_of())
    got, ours = entropy_gradient(lm, vectors_of(), prompts, responses, recipe("paper"))
    assert got == pytest.approx(expected, rel=1e-6)  # both take entropies in fp32
    torch.testing.assert_close(ours, gradient, rtol=1e-4, atol=1e-7)
    assert float(gradient.norm()) > 1e-3


@pytest.mark.parametrize("tokens", [{}, INSIDE], ids=["pad outside the text", "pad inside the prompt"])
@pytest.mark.parametrize("batch", [2, 5])
def test_both_sides_write_the_same_greedy_texts(batch: int, tokens: dict[str, object]) -> None:
    lm, prompts = tiny_lm("qwen2", torch.float64, **tokens), some_prompts(5)
    rules = evaluation("paper").decoding
    rules = type(rules)(type(rules.sampling)(20), rules.stopping, rules.order, batch, rules.sort_by_length)
    found: dict[int, str] = {}
    prefix = EmbeddingPrefix(SoftPrompt(vectors_of()))
    for part in HFEngine().generate(lm, requests_of(prompts), prefix, rules):
        found |= {i: completion.text for i, completion in part.items()}
    expected = reference.evaluate(lm, prompts, vectors_of(), 20, batch, STOPS)
    assert [found[i] for i in range(5)] == expected
    assert len(set(expected)) == 5


def test_exponents_of_exact_powers_are_found() -> None:
    rows = [
        {"side": "ours", "stage": "loss", "seconds": 1.0, "cpu_seconds": 3 * work["rows"] ** 2 * work["length"], **work}
        | {"memory": 5 * work["rows"]}
        for work in map(asdict, growth.plan({}))
    ]
    found = growth.exponents(pd.DataFrame(rows)).set_index(["size", "quantity"])["exponent"]
    assert found["rows", "cpu_seconds"] == pytest.approx(2)
    assert found["length", "cpu_seconds"] == pytest.approx(1)
    assert found["rows", "memory"] == pytest.approx(1)
    assert found["prompt", "memory"] == pytest.approx(0, abs=1e-12)


def row(side: str, stage: str, pair: int, seconds: float, **more: object) -> dict[str, object]:
    common = {
        "command": "c",
        "commit": "0123456789",
        "dtype": "torch.float32",
        "threads": 1,
        "load": 1.0,
        "gflops": 50.0,
        "gbytes": 16.0,
    }
    sizes = {
        "rows": 8,
        "response": 128,
        "tokens": 1024,
        "attainable": 1.0,
        "problems": 2,
        "cap": 4,
        "batch": 64,
        "at_once": 4,
    }
    used = {"seconds": seconds, "cpu_seconds": seconds, "memory": 2.0**30}
    return {"side": side, "stage": stage, "pair": pair, **common, **sizes, **used, **more}


FACTS = {
    "hardware": {"cpu": "a processor", "cores": 2, "memory_gib": 8},
    "packages": {"torch": "1", "transformers": "2"},
    "python": "3",
}


def test_the_page_gives_ratios_of_pairs_and_keeps_the_history_below() -> None:
    rows = [
        row(side, stage, pair, seconds)
        for pair in (0, 1)
        for side, stage, seconds in (
            ("reference", "rollout", 6.0 + pair),
            ("ours", "rollout", 2.0),
            ("reference", "loss", 12.0),
            ("ours", "loss", 3.0),
            ("ours", AT_ONCE, 1.0),
        )
    ]
    texts = {"digests": "aa bb", "tokens": None, "attainable": None}
    rows += [row("reference", "evaluation paper", 0, 9.0, **texts), row("ours", "evaluation paper", 0, 3.0, **texts)]
    found = page(pd.DataFrame(rows), pd.DataFrame(), FACTS, f"# Old\n\nold\n\n{HISTORY}\n\nwhat was tried\n")
    assert "**3.25** [3.00, 3.50]" in found
    assert "**3.70** [3.60, 3.80]" in found
    assert "**4.62** [4.50, 4.75]" in found  # (6 + 12) / (1 + 3), and 7 + 12
    assert "rollouts of 4 updates on the same prompts, drawn side by side" in found
    assert "2 of 2" in found
    assert "450.00" in found
    assert found.endswith(f"{HISTORY}\n\nwhat was tried\n")
    assert "# Old" not in found


@pytest.mark.parametrize(("rows", "tokens"), [(8, 10_000), (3, 10_000), (8, 600)])
def test_groups_hold_every_row_once_and_keep_to_their_limits(rows: int, tokens: int) -> None:
    lengths = [580, 291, 255, 228, 227, 220, 198, 194, 700, 195]
    groups = group_by_length(lengths, rows, tokens)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        width = max(lengths[i] for i in group)
        assert len(group) <= rows
        assert len(group) == 1 or len(group) * width <= tokens
        assert sum(lengths[i] for i in group) >= 0.9 * len(group) * width
    assert any(len(group) > 1 for group in groups)


@pytest.mark.parametrize("room", [1, 3])
@pytest.mark.parametrize("static_cache", [False, True], ids=["growing", "static"])
def test_buffers_that_grow_change_nothing(room: int, static_cache: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(static_cache: bool = False) -> list[tuple[int, ...]]:
        lm = tiny_lm("llama", torch.float64)
        (batch,) = HFEngine(static_cache=static_cache).generate(
            lm, requests_of(some_prompts(4)), None, decoding(9, temperature=1.0)
        )
        return [batch[i].token_ids for i in range(4)]

    expected = written()
    monkeypatch.setattr(kv_cache, "ROOM", room)
    assert written(static_cache) == expected


def test_a_model_with_windows_keeps_its_padding() -> None:
    windowed = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    lm = tiny_lm("qwen2", torch.float64, **windowed)
    assert tiny_lm("qwen2").attends_everywhere
    assert not lm.attends_everywhere
    prompts, responses = some_prompts(3), [[65, 66], [67], [68, 69, 70]]
    expected, gradient = reference.loss(lm, prompts, responses, vectors_of())
    got, ours = entropy_gradient(lm, vectors_of(), prompts, responses, recipe("paper"))
    assert got == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(ours, gradient, rtol=1e-4, atol=1e-7)


def test_the_figure_of_growth_has_a_line_a_side_and_stage(tmp_path: Path) -> None:
    rows = [
        {**work, "side": side, "stage": stage, "seconds": 1.0, "cpu_seconds": 2.0 * work["rows"], "memory": 1e9}
        for side in ("reference", "ours")
        for stage in ("rollout", "loss")
        for work in map(asdict, growth.plan({}))
    ]
    growth.draw(pd.DataFrame(rows), tmp_path / "growth")
    drawn = (tmp_path / "growth.svg").read_text()
    for words in ("rollout, reference", "loss, ours", "virtual tokens L", "40k"):
        assert words in drawn


@pytest.mark.parametrize("name", ["qwen2_5_math_1_5b", "qwen2_5_math_7b"])
def test_random_weights_have_the_shape_of_the_model_that_they_stand_for(name: str) -> None:
    config = random_weights.named(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(random_weights.config_of(config))
    assert model.num_parameters() == pytest.approx(config.parameters, rel=0.01)
    assert dimensions_of(model.config) == config.dimensions
    with pytest.raises(UserError, match="no Qwen2 model with dimensions"):
        random_weights.config_of(random_weights.named("llama_3_1_8b_instruct"))
