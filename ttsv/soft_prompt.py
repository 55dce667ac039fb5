"""The learnable soft prompt: its initialisers beside it, and its file format (safetensors with metadata)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ttsv.records import Prompt, UserError
from ttsv.sampling import permutation
from ttsv.store import canonical_json, digest, replacing

if TYPE_CHECKING:  # a vector's file is read without transformers
    from ttsv.models import LanguageModel

TENSOR = "soft_prompt"

Initialization = Literal["standard_normal", "data_statistics", "vocabulary", "text"]


@dataclass(frozen=True)
class SoftPrompt:
    """A prefix of virtual tokens: ``vectors`` (L, d), fp32 on the CPU, and where it comes from."""

    vectors: Tensor
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def content_digest(self) -> str:
        """Return a hash of the numbers alone, whatever their history."""
        return digest([list(self.vectors.shape), self.vectors.contiguous().numpy().tobytes().hex()])

    def save(self, path: Path) -> None:
        """Write the vectors and their metadata to a safetensors file, atomically."""
        write_tensors(path, {TENSOR: self.vectors}, {"ttsv": json.dumps(dict(self.metadata), sort_keys=True)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write named tensors to a safetensors file, atomically and without a copy of them in memory."""
    with replacing(path) as temporary:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, temporary, dict(metadata))


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of named tensors: names, shapes, types and every number."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(canonical_json([name, list(tensor.shape), str(tensor.dtype)]).encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def load_soft_prompt(path: Path) -> SoftPrompt:
    """Read a soft prompt: our safetensors file, PEFT's ``adapter_model.safetensors``, or a released ``prefix_embeddings.pt``.

    Raises:
        UserError: if the file is missing, damaged, or does not hold one (L, d) matrix of finite numbers.
    """
    if path.is_dir():
        found = [
            path / name
            for name in ("vector.safetensors", "adapter_model.safetensors", "prefix_embeddings.pt")
            if (path / name).is_file()
        ]
        if not found:
            raise UserError(
                f"{path} holds no vector: expected vector.safetensors, adapter_model.safetensors or prefix_embeddings.pt in it"
            )
        path = found[0]
    if not path.is_file():
        raise UserError(
            f"no vector at {path}; expected a .safetensors file or a released prefix_embeddings.pt (vector=FILE)"
        )
    try:
        tensors, metadata = _read_pt(path) if path.suffix in {".pt", ".pth", ".bin"} else _read_safetensors(path)
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"{path} is not a readable vector file: {error}. Copy it again from where it came.") from error
    except Exception as error:  # torch's restricted unpickler has an exception class of its own
        raise UserError(
            f"{path} holds more than tensors and is not loaded ({type(error).__name__}: {error})"
        ) from error
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.dim() == 2}
    if len(matrices) != 1:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise UserError(f"{path} holds {shapes}; expected one matrix (virtual tokens, hidden size)")
    vectors = next(iter(matrices.values())).float()
    if not bool(vectors.isfinite().all()):
        raise UserError(f"{path} holds numbers that are not finite; it cannot be used as a prefix")
    return SoftPrompt(vectors, metadata)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        metadata = json.loads((file.metadata() or {}).get("ttsv", "{}"))
        return {name: file.get_tensor(name) for name in file.keys()}, metadata


def _read_pt(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    named = state if isinstance(state, dict) else {TENSOR: state}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}, {}


def initialize(
    kind: Initialization,
    length: int,
    lm: "LanguageModel",
    seed: int,
    prompts: Sequence[Prompt] = (),
    text: str | None = None,
) -> Tensor:
    """Return the untrained vectors (L, d), fp32 on the CPU.

    ``standard_normal``: N(0, 1), bit for bit what ``torch.manual_seed(seed)`` and a fresh ``torch.nn.Embedding(L, d)`` give; the released
    recipe, with seed 15. ``data_statistics``: N(mean, std), per dimension, of the token embeddings of ``prompts``; the paper's description
    for Llama, whose code was not released. ``vocabulary``: embeddings of L distinct tokens drawn from the vocabulary (Lester et al.
    2021, without their restriction to frequent tokens). ``text``: the embeddings of the first L tokens of ``text``, repeated if shorter.

    Raises:
        UserError: for an unknown kind, or ``text`` without any text.
    """
    generator = torch.Generator().manual_seed(seed)
    width = lm.hidden_size
    if kind == "standard_normal":
        return torch.empty(length, width).normal_(generator=generator)
    table = lm.token_embeddings
    if kind == "vocabulary":
        tokens = permutation(min(lm.tokenizer_size, table.shape[0]), "vocabulary", seed)[:length]
        return table[tokens].float().cpu()
    if kind == "data_statistics":
        ids = torch.tensor([i for prompt in prompts for i in prompt.token_ids], device=table.device)
        if not len(ids):
            raise UserError("initialization=data_statistics needs prompts to take statistics of, got none")
        rows = table[ids].float().cpu()
        return rows.mean(0) + rows.std(0) * torch.empty(length, width).normal_(generator=generator)
    if kind == "text":
        ids_of_text = lm.tokenizer(text or "", add_special_tokens=False)["input_ids"]
        if not ids_of_text:
            raise UserError(f"initialization=text needs optimization.initialization_text, got {text!r}")
        repeated = (ids_of_text * (length // len(ids_of_text) + 1))[:length]
        return table[repeated].float().cpu()
    raise UserError(
        f"initialization={kind!r} is unknown; expected standard_normal, data_statistics, vocabulary or text"
    )
