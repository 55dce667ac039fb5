"""A loaded model: frozen, with every end token that its files name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import (
    ARCHITECTURES,
    CHATML,
    STOP,
    TEXT_END,
    TURN_END,
    TURN_START,
    save_folder,
    tiny_lm,
    tiny_tokenizer,
)
from transformers import GenerationConfig

from ttsv.models import LanguageModel, open_source, resolve_device, resolve_dtype
from ttsv.records import UserError
from ttsv.weights import ModelConfig


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_architecture_loads_from_a_folder_frozen_and_whole(tmp_path: Path, architecture: str) -> None:
    save_folder(tmp_path / "m", architecture, seed=3)
    lm = open_source(ModelConfig("tiny", path=str(tmp_path / "m"))).load(torch.float32, torch.device("cpu"))
    assert lm.model.config.model_type == architecture
    assert not any(p.requires_grad for p in lm.model.parameters())
    assert not lm.model.training
    ids = torch.tensor([[65, 66, 67]])
    with torch.no_grad():
        torch.testing.assert_close(lm.model(ids).logits, tiny_lm(architecture, seed=3).model(ids).logits)
    assert (lm.eos_ids, lm.end_ids, lm.pad_token_id) == ({TEXT_END}, {TEXT_END, TURN_END}, TEXT_END)
    assert lm.tokenizer("4<|im_end|>")["input_ids"][-1] == TURN_END


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_is_loaded_in_the_dtype_asked_for(tmp_path: Path, dtype: torch.dtype) -> None:
    source = open_source(ModelConfig("tiny", path=str(save_folder(tmp_path / "m"))))
    lm = source.load(dtype, torch.device("cpu"))
    assert lm.dtype == dtype
    assert {p.dtype for p in lm.model.parameters()} == {dtype}


def test_weights_never_require_gradients() -> None:
    lm = tiny_lm()
    assert not any(p.requires_grad for p in lm.model.parameters())


def lm_with(config_eos: Any, generation_eos: Any, extra: tuple[str, ...] = (), **tokenizer: Any) -> LanguageModel:
    lm = tiny_lm(eos_token_id=config_eos, tokenizer=tokenizer)
    lm.model.generation_config = GenerationConfig(eos_token_id=generation_eos)
    return LanguageModel("tiny", lm.model, lm.tokenizer, "tiny", extra)


def test_end_ids_unite_tokenizer_generation_config_config_and_template() -> None:
    lm = lm_with(TURN_START, [STOP], eos_token="<|endoftext|>")
    assert lm.end_ids == {TEXT_END, TURN_START, TURN_END, STOP}
    assert lm.eos_ids == {STOP}


def test_the_models_own_eos_is_the_generation_configs_else_the_configs() -> None:
    assert lm_with(TEXT_END, [STOP, TURN_END]).eos_ids == {STOP, TURN_END}
    assert lm_with([TEXT_END, STOP], None).eos_ids == {TEXT_END, STOP}


def test_without_a_chat_template_no_end_of_turn_is_guessed() -> None:
    assert lm_with(TEXT_END, None, chat_template=None).end_ids == {TEXT_END}


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("<|im_end|>", ""),
        CHATML.replace("<|im_end|>", " and then <|im_end|>"),
        "<|im_start|>{% for message in messages %}{{ message['content'] | lower }}{% endfor %}",
        "{{ raise_exception('only one turn, please') }}",
    ],
    ids=["no mark", "mark not at once", "answer not to be found", "refuses"],
)
def test_a_template_that_ends_no_turn_with_a_special_token_adds_none(template: str) -> None:
    assert lm_with(TEXT_END, None, chat_template=template).end_ids == {TEXT_END}


def test_named_end_tokens_are_added_and_unknown_ones_refused() -> None:
    assert STOP in lm_with(TEXT_END, None, ("<|stop|>",)).end_ids
    for tokenizer in ({}, {"unk_token": "<|stop|>"}):
        with pytest.raises(UserError, match=r"end_tokens=\['<\|nowhere\|>'\] holds a token that tiny's"):
            _ = lm_with(TEXT_END, None, ("<|nowhere|>",), **tokenizer).end_ids


def test_a_model_without_any_end_token_is_refused() -> None:
    with pytest.raises(UserError, match="names no end token anywhere"):
        _ = lm_with(None, None, eos_token=None, chat_template=None).end_ids


def test_the_pad_token_is_the_tokenizers_else_the_configs_else_an_end() -> None:
    assert tiny_lm(tokenizer={"pad_token": "<|stop|>"}).pad_token_id == STOP
    assert tiny_lm(pad_token_id=TURN_START, tokenizer={"pad_token": None}).pad_token_id == TURN_START
    assert tiny_lm(pad_token_id=None, tokenizer={"pad_token": None, "eos_token": "<|im_end|>"}).pad_token_id == TURN_END


def test_the_tokenizers_size_leaves_unused_rows_of_the_table_out() -> None:
    lm = tiny_lm()
    assert lm.tokenizer_size == len(tiny_tokenizer()) == 260
    assert lm.token_embeddings.shape[0] == 272


def test_an_unknown_architecture_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "m")
    (folder / "config.json").write_text('{"model_type": "no_such_model", "architectures": ["NoSuchModel"]}')
    with pytest.raises(
        UserError, match=r"(?s)transformers cannot load tiny from .*/m: .*Code shipped with a model is never run"
    ):
        open_source(ModelConfig("tiny", path=str(folder))).load(torch.float32, torch.device("cpu"))


def test_devices_and_dtypes_that_are_not_there_are_named() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="device='tpu-ish' is unknown"):
        resolve_device("tpu-ish")
    if not torch.cuda.is_available():
        assert resolve_device("auto") == torch.device("cpu")
        with pytest.raises(UserError, match="no CUDA device"):
            resolve_device("cuda:1")
    assert resolve_dtype("float16", torch.device("cpu")) == torch.float16
    assert resolve_dtype("auto", torch.device("cpu")) in (torch.bfloat16, torch.float32)
    with pytest.raises(UserError, match="dtype='float8' is unknown"):
        resolve_dtype("float8", torch.device("cpu"))
