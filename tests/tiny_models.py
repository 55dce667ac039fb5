"""Tiny random models of real architectures with a real tokenizer, and the recipes of conf/, for tests that download nothing."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ttsv.config import component
from ttsv.engines.base import Decoding, Request, Stopping
from ttsv.engines.hf import _Run
from ttsv.evaluation import Evaluation
from ttsv.models import LanguageModel
from ttsv.optimization import Optimization
from ttsv.records import Prompt
from ttsv.sampling import Sampling

CONF = Path(__file__).resolve().parents[1] / "conf"
ARCHITECTURES = ("llama", "qwen2", "qwen3")
VOCABULARY = 272
WIDTH = 32
TEXT_END, TURN_START, TURN_END, STOP = 256, 257, 258, 259
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|stop|>"]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(**changes: Any) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: a token for each byte, then the four special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = ByteLevel()
    inner.add_special_tokens(SPECIAL)
    settings = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "chat_template": CHATML, **changes}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **settings)


def tiny_model(architecture: str = "llama", seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model of two layers whose distributions are neither flat nor one-hot."""
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": TEXT_END,
        "pad_token_id": TEXT_END,
        "tie_word_embeddings": False,
        "attn_implementation": "sdpa",
        **changes,
    }
    if architecture == "qwen3":
        settings.setdefault("head_dim", 8)
    config_class, model_class = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }[architecture]
    generator_state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = model_class(config_class(**settings))
    torch.set_rng_state(generator_state)
    model.generation_config = GenerationConfig(eos_token_id=settings["eos_token_id"], do_sample=False)
    return model


def tiny_lm(architecture: str = "llama", dtype: torch.dtype = torch.float32, **changes: Any) -> LanguageModel:
    """A language model in memory; ``changes`` go to the model's config, ``tokenizer`` is a dict of tokenizer settings."""
    tokenizer = tiny_tokenizer(**changes.pop("tokenizer", {}))
    return LanguageModel("tiny", tiny_model(architecture, **changes).to(dtype), tokenizer, "tiny")


def save_folder(folder: Path, architecture: str = "llama", *, shard_size: str = "1GB", **changes: Any) -> Path:
    """A model folder as the hub has them: config, generation config, tokenizer, safetensors."""
    tokenizer = tiny_tokenizer(**changes.pop("tokenizer", {}))
    tiny_model(architecture, **changes).save_pretrained(folder, max_shard_size=shard_size)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def composed(*overrides: str) -> DictConfig:
    """The root config with overrides, as an entry point would get it."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def recipe(name: str, **changes: Any) -> Optimization:
    """The optimisation options of a recipe config, at a tiny size."""
    built = component(composed(f"recipe={name}", "scale=full").recipe.optimization, "recipe.optimization")
    rollout = replace(built.rollout, max_new_tokens=6)
    small = {"length": 3, "rollout": rollout, "save_every": 2}
    return replace(built, **{**small, **changes})


def evaluation(name: str, **overrides: Any) -> Evaluation:
    """The evaluation of a recipe config."""
    return replace(
        component(composed(f"recipe={name}", "scale=full").recipe.evaluation, "recipe.evaluation"), **overrides
    )


def prompts_of(*texts: str) -> list[Prompt]:
    """Prompts p0, p1, ... as a tokenizer without special tokens encodes them."""
    tokenizer = tiny_tokenizer()
    return [
        Prompt(f"p{number}", text, tuple(tokenizer(text, add_special_tokens=False)["input_ids"]))
        for number, text in enumerate(texts)
    ]


def some_prompts(count: int) -> list[Prompt]:
    """Prompts of different lengths, with chat marks inside."""
    return prompts_of(
        *(f"<|im_start|>user\n{'what is ' * (n % 3)}{n}+{n}<|im_end|>\n<|im_start|>" for n in range(count))
    )


def requests_of(prompts: list[Prompt], purpose: str = "test") -> list[Request]:
    """One request per prompt."""
    return [Request(prompt, 0, (purpose, prompt.problem_id, 0)) for prompt in prompts]


def decoding(max_new_tokens: int = 12, stopping: Stopping | None = None, **changes: Any) -> Decoding:
    """Decoding rules; fields of Sampling and of Decoding mixed."""
    of_sampling = {k: changes.pop(k) for k in ("temperature", "top_p", "top_k", "repetition_penalty") if k in changes}
    return Decoding(Sampling(max_new_tokens, **of_sampling), stopping or Stopping(), **changes)


def with_ends(lm: LanguageModel, tokens: frozenset[int]) -> LanguageModel:
    """The model with other end tokens, so that a random model stops where a test wants it."""
    lm.end_ids = tokens  # type: ignore[misc]  # overrides the cached property of this one object
    return lm


def write(lm: LanguageModel, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the engine's model write the given texts, a row each, so that rules of stopping can be tested alone."""
    answers, original = [ids_of(lm, text) for text in texts], _Run._next_tokens

    def scripted(run: _Run, logits: torch.Tensor, inside: list[int], step: int) -> torch.Tensor:
        wanted = torch.full_like(logits, -50.0)
        for row, index in enumerate(inside):
            wanted[row, answers[index][min(step, len(answers[index]) - 1)]] = 50.0
        return original(run, wanted, inside, step)

    monkeypatch.setattr(_Run, "_next_tokens", scripted)


def ids_of(lm: LanguageModel, text: str) -> list[int]:
    ids: list[int] = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
