"""Rows of a data set on the Hugging Face hub, at a stated revision, and plain words when it cannot be had."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttsv.records import UserError
from ttsv.tasks.fields import Fields

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubSource:
    """A split of a hub data set. ``revision`` None means whatever is newest; the commit that was used is reported.

    ``fields`` is given where the hub names its fields differently from the local file of the same task.
    """

    path: str
    split: str
    config: str | None = None
    revision: str | None = None
    fields: Fields | None = None

    @property
    def label(self) -> str:
        """The data set in words, for messages."""
        config = f", config {self.config}" if self.config else ""
        revision = f" at {self.revision[:8]}" if self.revision else ""
        return f"hub data set {self.path}{revision} ({self.split} split{config})"

    def rows(self, instead: str) -> tuple[list[Mapping[str, object]], str | None]:
        """All rows, and the commit they belong to (None if the library does not say).

        Downloads on first use. Raises ``UserError`` that says what to do, ``instead`` being the way without the hub.
        """
        import datasets

        try:
            data = datasets.load_dataset(self.path, self.config, split=self.split, revision=self.revision)
        # The hub client passes on its HTTP library's exceptions, which are other classes in other versions.
        except Exception as error:
            raise UserError(self._explain(error, instead)) from error
        return [dict(row) for row in data], self._commit_of(data)

    def availability(self, instead: str) -> str:
        """Whether it is cached or can be downloaded, without downloading it; raises ``UserError`` if neither."""
        if self._cached():
            return f"{self.label}, in the local cache"
        from huggingface_hub import HfApi

        try:
            hub = HfApi()
            hub.auth_check(self.path, repo_type="dataset")
            hub.dataset_info(self.path, revision=self.revision, timeout=10)
        except Exception as error:
            raise UserError(self._explain(error, instead)) from error
        return f"{self.label}, to be downloaded"

    def _cached(self) -> bool:
        import datasets

        # The cache folder of a/bC is a___b_c; the spelling rule for the rest is the library's own.
        wanted = _plain(self.path.replace("/", "___"))
        root = Path(datasets.config.HF_DATASETS_CACHE)
        folders = [folder for folder in root.glob("*") if _plain(folder.name) == wanted]
        config = self.config or "*"
        return any(any(folder.glob(f"{config}/*/{self.revision or '*'}/*.arrow")) for folder in folders)

    def _commit_of(self, data: Any) -> str | None:
        if self.revision and _COMMIT.fullmatch(self.revision):
            return self.revision
        checksums = getattr(data.info, "download_checksums", None) or {}
        places = [*checksums, *(file["filename"] for file in data.cache_files)]
        return next((match.group() for place in places if (match := _COMMIT.search(place))), None)

    def _explain(self, error: Exception, instead: str) -> str:
        said = "; ".join(dict.fromkeys(f"{type(cause).__name__}: {cause}".splitlines()[0] for cause in _causes(error)))
        kinds = {type(cause).__name__ for cause in _causes(error)}
        if "gated" in said.lower() or "GatedRepoError" in kinds:
            advice = f"accept its terms at huggingface.co/datasets/{self.path} and run `hf auth login`"
        elif kinds & {"OfflineModeIsEnabled"} or "OfflineModeIsEnabled" in said:
            advice = "unset HF_HUB_OFFLINE to let it be downloaded"
        elif kinds & {"RepositoryNotFoundError", "DatasetNotFoundError", "RevisionNotFoundError", "HFValidationError"}:
            advice = "check its name and revision in the task's config, or run `hf auth login` if it is private"
        elif "ValueError" in kinds:
            advice = "check the config and split in the task's config"
        else:
            advice = "check the connection to the hub"
        return f"{self.label} cannot be had: {advice}, or {instead}. The hub client said: {said[:400]}"


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
