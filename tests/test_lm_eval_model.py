import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from tiny_models import TEXT_END, WIDTH, decoding, ids_of, requests_of, save_folder, tiny_lm

from ttsv.adaptations import EmbeddingPrefix
from ttsv.engines.hf import HFEngine
from ttsv.lm_eval.model import SoftPromptLM
from ttsv.models import LanguageModel
from ttsv.records import Prompt, UserError
from ttsv.soft_prompt import SoftPrompt
from ttsv.store import write_json

PAIRS = [
    ("2+2=", "4"),
    ("2+2=", "five"),
    ("a longer question than the others, is it?", " yes"),
    ("", "alone"),
    ("a", "bc d"),
]
CONTEXTS = [
    "1+1=",
    "<|im_start|>user\nwhat is 2+2?<|im_end|>\n",
    "a much longer prompt than the others have, so that they are padded",
]


def prompt_of(length: int = 3, seed: int = 1) -> SoftPrompt:
    return SoftPrompt(torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(seed)))


def adapted(lm: LanguageModel, prompt: SoftPrompt | None, batch_size: int = 1, **arguments: Any) -> SoftPromptLM:
    return SoftPromptLM.around(lm, prompt and EmbeddingPrefix(prompt), batch_size=batch_size, **arguments)


def pairs() -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(PAIRS)]


def generations(**rules: Any) -> list[Instance]:
    wanted = {"until": ["zz"], "do_sample": False, "max_gen_toks": 12, **rules}
    return [Instance("generate_until", {}, (text, copy.deepcopy(wanted)), i) for i, text in enumerate(CONTEXTS)]


def texts() -> list[Instance]:
    return [Instance("loglikelihood_rolling", {}, ("a b c " * n,), n) for n in (1, 9, 30)]


@torch.inference_mode()
def by_hand(lm: LanguageModel, prompt: SoftPrompt, context: list[int], continuation: list[int]) -> float:
    """The log-likelihood of one row alone, without padding, mask or positions."""
    ids = torch.tensor([context + continuation])
    embeddings = torch.cat([prompt.vectors[None], lm.embed(ids)], dim=1)
    logits = lm.model(inputs_embeds=embeddings).logits[0].log_softmax(-1)
    first = len(prompt.vectors) + len(context) - 1
    return sum(float(logits[first + i, token]) for i, token in enumerate(continuation))


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_without_a_soft_prompt_everything_is_as_in_lm_evals_own_model(
    tmp_path: Path, architecture: str, batch_size: int
) -> None:
    folder = str(save_folder(tmp_path / "model", architecture))
    arguments = f"pretrained={folder},dtype=float32,max_length=64"
    ours, theirs = (
        get_model(name).create_from_arg_string(arguments, {"batch_size": batch_size, "device": "cpu"})
        for name in ("ttsv", "hf")
    )
    assert isinstance(ours, SoftPromptLM)
    assert type(theirs) is HFLM
    for (ll, greedy), (expected, expected_greedy) in zip(
        ours.loglikelihood(pairs(), True), theirs.loglikelihood(pairs(), True), strict=True
    ):
        assert ll == pytest.approx(expected, abs=1e-5)
        assert greedy == expected_greedy
    assert ours.loglikelihood_rolling(texts(), True) == pytest.approx(
        theirs.loglikelihood_rolling(texts(), True), abs=1e-5
    )
    assert ours.generate_until(generations(), True) == theirs.generate_until(generations(), True)
    chat = [{"role": "user", "content": "hello"}]
    assert ours.apply_chat_template(chat) == theirs.apply_chat_template(chat)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_log_likelihoods_are_those_of_each_row_behind_the_soft_prompt_alone(architecture: str, batch_size: int) -> None:
    lm, prompt = tiny_lm(architecture), prompt_of()
    model = adapted(lm, prompt, batch_size)
    found = [ll for ll, _ in model.loglikelihood(pairs(), True)]
    expected = [by_hand(lm, prompt, ids_of(lm, c) or [model.prefix_token_id], ids_of(lm, a)) for c, a in PAIRS]
    assert found == pytest.approx(expected, abs=1e-4)
    without = [ll for ll, _ in adapted(lm, None).loglikelihood(pairs(), True)]
    assert max(abs(a - b) for a, b in zip(found, without, strict=True)) > 0.1


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_greedy_generations_are_those_of_our_own_engine(architecture: str, batch_size: int) -> None:
    lm, prompt = tiny_lm(architecture), prompt_of()
    found = adapted(lm, prompt, batch_size).generate_until(generations(until=[]), True)
    prompts = [Prompt(str(i), text, tuple(ids_of(lm, text))) for i, text in enumerate(CONTEXTS)]
    rules = decoding(12, batch_size=1)
    done: dict[int, Any] = {}
    for batch in HFEngine().generate(lm, requests_of(prompts), EmbeddingPrefix(prompt), rules):
        done |= batch
    eos = lm.decode([256], skip_special=False)
    assert found == [lm.decode(done[i].token_ids).split(eos)[0] for i in range(len(CONTEXTS))]
    assert found != adapted(lm, None, batch_size).generate_until(generations(until=[]), True)


def test_rolling_windows_leave_room_for_the_soft_prompt() -> None:
    lm, prompt = tiny_lm(), prompt_of(5)
    model = adapted(lm, prompt, 2, max_length=25)
    assert model.max_length == 20
    ids = ids_of(lm, "a b c " * 9)
    windows = [([model.prefix_token_id], ids[:20]), (ids[19:20], ids[20:40]), (ids[33:40], ids[40:])]
    expected = sum(by_hand(lm, prompt, *window) for window in windows)
    assert model.loglikelihood_rolling([texts()[1]], True) == pytest.approx([expected], abs=1e-3)


def test_a_repetition_penalty_sees_the_prompt_too_as_it_does_without_a_soft_prompt() -> None:
    lm, prompt = tiny_lm(), prompt_of()
    found = adapted(lm, prompt).generate_until(generations(until=[], repetition_penalty=1.8)[1:2], True)
    ids = ids_of(lm, CONTEXTS[1])
    for _ in range(12):
        with torch.no_grad():
            rows = torch.cat([prompt.vectors[None], lm.embed(torch.tensor([ids]))], dim=1)
            logits = lm.model(inputs_embeds=rows).logits[0, -1]
        seen = torch.tensor(sorted(set(ids)))
        logits[seen] = torch.where(logits[seen] > 0, logits[seen] / 1.8, logits[seen] * 1.8)
        ids.append(int(logits.argmax()))
        if ids[-1] == TEXT_END:
            break
    assert found == [lm.decode(ids[len(ids_of(lm, CONTEXTS[1])) :])]


def test_a_soft_prompt_is_read_from_a_file_a_released_file_or_an_adapt_stage(tmp_path: Path) -> None:
    folder, prompt = save_folder(tmp_path / "model"), prompt_of()
    prompt.save(tmp_path / "vector.safetensors")
    torch.save({"weight": prompt.vectors}, tmp_path / "prefix_embeddings.pt")
    stage, nothing = tmp_path / "ttsv-0123", tmp_path / "none-0123"
    for place, kind in ((stage, "EmbeddingPrefix"), (nothing, None)):
        place.mkdir()
        write_json(place / "adaptation.json", {"kind": kind})
    prompt.save(stage / "vector.safetensors")
    expected = adapted(tiny_lm(), prompt).loglikelihood_rolling(texts(), True)
    for file in (tmp_path / "vector.safetensors", tmp_path / "prefix_embeddings.pt", stage):
        model = SoftPromptLM(str(folder), str(file), device="cpu", dtype="float32")
        assert model.loglikelihood_rolling(texts(), True) == pytest.approx(expected, abs=1e-3)
    assert SoftPromptLM(str(folder), str(nothing), device="cpu").prefix_length == 0


def test_what_cannot_be_right_is_refused(tmp_path: Path) -> None:
    lm = tiny_lm()
    with pytest.raises(UserError, match=f"width 7.*width {WIDTH}"):
        adapted(lm, SoftPrompt(torch.zeros(3, 7)))
    with pytest.raises(UserError, match="never run"):
        adapted(lm, None, trust_remote_code=True)
    with pytest.raises(UserError, match="no vector at"):
        SoftPromptLM(lm.model, str(tmp_path / "missing.safetensors"), tokenizer=lm.tokenizer)


def test_an_empty_soft_prompt_changes_nothing_and_the_models_tokenizer_stays_as_it_was() -> None:
    lm = tiny_lm(tokenizer={"pad_token": None})
    found = adapted(lm, SoftPrompt(torch.zeros(0, WIDTH)), 3).generate_until(generations(), True)
    assert found == adapted(lm, None, 3).generate_until(generations(), True)
    assert lm.tokenizer.pad_token is None
