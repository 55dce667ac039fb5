"""Where a model's files are: a hub snapshot, a local folder, or a file of an installed package; whether they are whole; their fingerprint.

Only safetensors and GGUF are read. A GGUF file is dequantised once and kept as safetensors in the cache folder.
"""

import importlib.metadata
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open

from ttsv import model_hub
from ttsv.records import UserError
from ttsv.store import digest, file_sha256, write_atomically

log = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True)
class Dimensions:
    """Sizes of a model, under the names of its config; ``tied`` if the output head is the embedding table."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tied: bool


@dataclass(frozen=True)
class ModelConfig:
    """Which model: exactly one of ``id`` (hub), ``path`` (local folder or GGUF file) or ``package`` (installed distribution).

    ``revision`` pins a hub commit. ``gguf_file`` names the file in a folder or package, ``sha256`` is what it must hash to.
    ``thinking`` is passed on to chat templates that have such a switch (Qwen3). ``end_tokens`` adds end-of-turn tokens to those
    that tokenizer, generation config and template name. ``parameters`` (a count) and ``dimensions`` are used for estimates before the
    weights are there.
    """

    name: str
    id: str | None = None
    path: str | None = None
    package: str | None = None
    revision: str | None = None
    gguf_file: str | None = None
    sha256: str | None = None
    parameters: float | None = None
    thinking: bool = True
    end_tokens: tuple[str, ...] = ()
    attn_implementation: str = "sdpa"
    dimensions: Dimensions | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("id", "path", "package") if getattr(self, name)]
        if len(given) != 1:
            raise UserError(
                f"model {self.name!r} names {given or 'no source'}; expected exactly one of model.id (hub), model.path (folder or "
                f"GGUF file) and model.package. For example: model=from_hub model.id=ORG/NAME, model=from_folder model.path=DIR"
            )
        if self.package and not self.gguf_file:
            raise UserError(f"model {self.name!r}: model.package needs model.gguf_file, the name of the file inside it")


def cache_folder() -> Path:
    """Return the folder for converted models and file hashes: ``$TTSV_CACHE``, else ``~/.cache/ttsv``."""
    return Path(
        os.environ.get("TTSV_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ttsv"
    )


def find(config: ModelConfig) -> Path | None:
    """Return the folder or GGUF file that is on disk, checked to be whole, or None where the hub must be asked first.

    Raises:
        UserError: if a local source is missing, or what is there is incomplete or damaged.
    """
    if config.package:
        return _package_file(config)
    if config.path:
        return _local(config)
    folder = model_hub.cached(str(config.id), config.revision)
    return folder if folder and _is_whole_snapshot(folder) else None


def at_hand(config: ModelConfig) -> Path | None:
    """Return the folder that :func:`fetch` would return, if it needs no download or conversion; see :func:`find` for what is raised."""
    found = find(config)
    if found is None or found.is_dir():
        return found
    folder = _converted_folder(found)
    return folder if (folder / "config.json").is_file() else None


def download_size(config: ModelConfig) -> int:
    """Return the bytes that :func:`fetch` would download; see :func:`ttsv.model_hub.download_size` for what is raised."""
    return model_hub.download_size(str(config.id), config.revision)


def fetch(config: ModelConfig) -> Path:
    """Return a folder with config, tokenizer and safetensors, downloading or converting where needed.

    Raises:
        UserError: as :func:`find` and :func:`download_size`.
    """
    found = find(config)
    if found is None:
        download_size(config)
        found = model_hub.download(str(config.id), config.revision)
        check_folder(found)
    return converted(found) if found.suffix == ".gguf" else found


def check_folder(folder: Path) -> None:
    """Check that a model folder is complete.

    Raises:
        UserError: naming what is missing or cut short.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no model folder: expected config.json in it")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"{folder} holds no tokenizer: expected one of {', '.join(TOKENIZER_FILES)}")
    for file in weight_files(folder):
        if not file.is_file():
            raise UserError(
                f"{file} is missing although the index lists it; the copy or download was not finished. Fetch it again."
            )
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} is damaged or cut short ({error}); fetch it again") from error


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers would load: ``model.safetensors``, else those that the index names, else all."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        try:
            return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index} is not a readable index ({error!r}); fetch it again") from error
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(
            f"{folder} holds no safetensors weights (pickled ones are not loaded); expected model.safetensors or an index"
        )
    return files


def parameter_count(folder: Path) -> int:
    """Return the number of parameters stored in a folder, read from the headers."""
    total = 0
    for file in weight_files(folder):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                size = 1
                for extent in tensors.get_slice(name).get_shape():
                    size *= extent
                total += size
    return total


def fingerprint(folder: Path) -> str:
    """Return a hash of weights, configs, tokenizer and chat template: what decides every token the model reads and writes."""
    names = [*weight_files(folder), *(folder / name for name in (*SETTINGS, *TOKENIZER_FILES))]
    return digest({file.name: _remembered_sha256(file) for file in names if file.is_file()})


def converted(gguf: Path) -> Path:
    """Return the folder that holds a GGUF file dequantised to fp32 safetensors, making it the first time."""
    folder = _converted_folder(gguf)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "config.json").is_file():
            log.info("converting %s to safetensors, once, into %s", gguf.name, folder)
            work = folder.with_suffix(".work")
            shutil.rmtree(work, ignore_errors=True)
            _dequantise(gguf, work)
            work.rename(folder)
    check_folder(folder)
    return folder


def _converted_folder(gguf: Path) -> Path:
    return cache_folder() / "converted" / _remembered_sha256(gguf)[:32]


def _dequantise(gguf: Path, target: Path) -> None:
    """Write config, tokenizer and fp32 weights of a GGUF file to ``target``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # A model read from GGUF counts as quantised and refuses to be saved, though its weights are plain; a fresh one takes them over.
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(type(loaded.config).from_dict(config), dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


def _package_file(config: ModelConfig) -> Path:
    try:
        distribution = importlib.metadata.distribution(str(config.package))
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"the package {config.package} is not installed; `make setup` installs it from the lock"
        ) from error
    listed = [file for file in distribution.files or [] if file.name == config.gguf_file]
    if not listed:
        raise UserError(
            f"the package {config.package} {distribution.version} holds no {config.gguf_file}; `make setup` installs the right version"
        )
    return _checked(Path(str(listed[0].locate())), config)


def _local(config: ModelConfig) -> Path:
    path = Path(str(config.path)).expanduser()
    if not path.exists():
        raise UserError(
            f"no model at {path}; expected a folder with config.json and safetensors, or a .gguf file (model.path=...)"
        )
    if path.is_file() and path.suffix != ".gguf":
        raise UserError(
            f"{path} is a file, but not a .gguf one; expected a folder with config.json and safetensors, or a .gguf file"
        )
    if path.is_dir() and not config.gguf_file:
        ggufs = sorted(path.glob("*.gguf"))
        if (path / "config.json").is_file() or not ggufs:
            check_folder(path)
            return path
        if len(ggufs) > 1:
            raise UserError(
                f"{path} holds {len(ggufs)} GGUF files ({', '.join(f.name for f in ggufs)}); choose one with model.gguf_file=NAME"
            )
        path = ggufs[0]
    elif path.is_dir():
        path = path / str(config.gguf_file)
    return _checked(path, config)


def _checked(file: Path, config: ModelConfig) -> Path:
    if not file.is_file():
        raise UserError(f"{file} is missing; check model.path and model.gguf_file")
    if config.sha256 and _remembered_sha256(file) != config.sha256:
        raise UserError(
            f"{file} has SHA-256 {_remembered_sha256(file)}, expected {config.sha256}; it is damaged or another version. Install it again."
        )
    return file


def _is_whole_snapshot(folder: Path) -> bool:
    try:
        check_folder(folder)
    except UserError as error:
        log.warning("the copy of the model in the hub cache is not complete: %s", error)
        return False
    return True


def _remembered_sha256(file: Path) -> str:
    """Return a file's SHA-256; hub blobs are named by it, others are hashed once per path, size and time of change."""
    real = file.resolve()
    if len(real.name) == 64 and real.parent.name == "blobs":
        return real.name
    state = real.stat()
    memo = cache_folder() / "sha256" / digest([str(real), state.st_size, state.st_mtime_ns])[:32]
    if memo.is_file():
        return memo.read_text()
    value = file_sha256(real)
    memo.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(memo, value)
    return value
