"""Entry point: a model of a given shape with random weights, for timing what no weights are at hand for.

``python -m ttsv.bench.random_weights qwen2_5_math_7b FOLDER`` writes one of the shape that ``conf/model/qwen2_5_math_7b.yaml`` names; then
``model=from_folder model.path=FOLDER`` runs it like any other. What it writes means nothing; what it costs is what the real one costs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from ttsv.bench.work import CONF
from ttsv.config import component
from ttsv.models import open_source, resolve_device
from ttsv.records import UserError
from ttsv.weights import ModelConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the model."""
    made = argparse.ArgumentParser(
        prog="python -m ttsv.bench.random_weights", description=(__doc__ or "").split("\n\n")[0]
    )
    made.add_argument("model", help="a config of conf/model: qwen2_5_math_7b or qwen2_5_math_1_5b")
    made.add_argument("folder", type=Path, help="where it goes")
    made.add_argument(
        "--tokenizer", default="smollm2_135m", help="the model config that lends its tokenizer, or a folder"
    )
    made.add_argument("--device", default="auto", help="where the weights are drawn (default: auto)")
    chosen = made.parse_args(arguments)
    try:
        write(chosen.model, chosen.folder, chosen.tokenizer, resolve_device(chosen.device))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(chosen.folder)
    return 0


def write(name: str, folder: Path, tokenizer: str, device: torch.device) -> None:
    """Write config, bf16 weights and a tokenizer to ``folder``.

    Raises:
        UserError: as :func:`config_of`, or if the tokenizer knows more tokens than the model.
    """
    config = config_of(named(name))
    words: Any = (
        AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        if Path(tokenizer).is_dir()
        else open_source(named(tokenizer)).tokenizer
    )
    if len(words) > config.vocab_size:
        raise UserError(
            f"{tokenizer} has {len(words)} tokens and {name} room for {config.vocab_size}; name another with --tokenizer"
        )
    config.eos_token_id, config.pad_token_id, config.bos_token_id = words.eos_token_id, words.pad_token_id, None
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def named(name: str) -> ModelConfig:
    """Return a config of ``conf/model``."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        found: ModelConfig = component(compose("config", [f"model={name}"]).model, "model")
    return found


def config_of(model: ModelConfig) -> Qwen2Config:
    """Return the architecture's config with the sizes that a model config gives.

    Raises:
        UserError: if it gives none, or is not of the Qwen2 architecture, whose heads together are as wide as the model.
    """
    sizes = model.dimensions
    if sizes is None or not model.name.startswith("qwen2"):
        raise UserError(f"model={model.name} is no Qwen2 model with dimensions; expected one of conf/model/qwen2*.yaml")
    return Qwen2Config(
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_hidden_layers,
        num_attention_heads=sizes.hidden_size // sizes.head_dim,
        num_key_value_heads=sizes.num_key_value_heads,
        vocab_size=sizes.vocab_size,
        tie_word_embeddings=sizes.tied,
    )


if __name__ == "__main__":
    sys.exit(main())
