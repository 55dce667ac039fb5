"""What changes a frozen model's behaviour, as small tagged kinds. No change at all is ``None`` down the same path."""

from dataclasses import dataclass
from typing import Any

from ttsv.soft_prompt import SoftPrompt


@dataclass(frozen=True)
class EmbeddingPrefix:
    """One soft prompt (L, d) in front of every prompt's input embeddings."""

    soft_prompt: SoftPrompt

    def identity(self) -> dict[str, Any]:
        """Return what the adapted model's outputs depend on: the numbers, not how they were found."""
        return {"kind": "embedding_prefix", "content": self.soft_prompt.content_digest()}


Adaptation = EmbeddingPrefix


def identity(adaptation: Adaptation | None) -> dict[str, Any] | None:
    """Return :meth:`EmbeddingPrefix.identity`, or None where nothing is changed."""
    return None if adaptation is None else adaptation.identity()
