"""Models on the Hugging Face hub: what its cache holds, what a download would take, and errors that say what to do."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ttsv.records import UserError

FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*.model",
]


def cached(model_id: str, revision: str | None) -> Path | None:
    """Return the snapshot in the hub's cache on this disk, whole or not, or None.

    Raises:
        UserError: if ``model_id`` cannot be the name of a model.
    """
    try:
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=FILES, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise UserError(f"model.id={model_id!r} is no hub id ({error}); expected ORG/NAME") from error


def download_size(model_id: str, revision: str | None) -> int:
    """Return the bytes that a download of the model would fetch.

    Raises:
        UserError: if the hub cannot be reached, or does not let this model be read, saying what to do.
    """
    with _hub_errors(model_id, revision):
        api = HfApi()
        info = api.model_info(model_id, revision=revision, files_metadata=True, timeout=15)
        if info.gated:
            api.auth_check(model_id)
    sizes = {f.rfilename: f.size or 0 for f in info.siblings or []}
    weights = {name: size for name, size in sizes.items() if name.endswith(".safetensors")}
    if not weights:
        raise UserError(
            f"{model_id} holds no safetensors; pickled weights are not loaded. Convert it and give model.path=DIR"
        )
    return sum(weights.values())


def download(model_id: str, revision: str | None) -> Path:
    """Return the snapshot's folder after downloading what is missing; errors as :func:`download_size`."""
    with _hub_errors(model_id, revision):
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=FILES))


@contextlib.contextmanager
def _hub_errors(model_id: str, revision: str | None) -> Iterator[None]:
    """Turn what the hub's client raises into errors that say what to do."""
    try:
        yield
    except GatedRepoError as error:
        raise UserError(
            f"{model_id} is gated: accept its licence on its hub page, then `hf auth login`, and run the same command again"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(
            f"{model_id} has no revision {revision!r} on the hub; set model.revision to a commit, or null"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the hub has no model {model_id!r} that you may read; check the spelling, or `hf auth login` if it is private"
        ) from error
    except (
        Exception
    ) as error:  # the client's HTTP library has its own exceptions, and changes with the client's version
        raise UserError(
            f"{model_id} is not (completely) on this disk and the hub cannot be reached ({type(error).__name__}). Either\n"
            f"  - fetch it where there is a network: hf download {model_id}, and set HF_HOME to that cache, or\n"
            f"  - give a folder with its safetensors: model=from_folder model.path=DIR, or\n"
            f"  - use the embedded model: model=smollm2_135m (make: MODEL=smollm2_135m)"
        ) from error
