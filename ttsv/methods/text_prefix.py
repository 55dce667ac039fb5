"""A prefix of ordinary words: what any text in front of the prompt does, random or not."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ttsv.adaptations import EmbeddingPrefix
from ttsv.methods.base import Adapted, Load, Method, Setting
from ttsv.soft_prompt import SoftPrompt


@dataclass(frozen=True)
class TextPrefix(Method):
    """The embeddings of the first L tokens of ``text``, repeated if it is shorter: as many as the optimised vector has rows."""

    text: str
    name: str = "text_prefix"
    kind: ClassVar[type[EmbeddingPrefix]] = EmbeddingPrefix

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return text, length and model; no seed."""
        return self._setting(setting).initial_key() | {"seed": None}

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Return the embeddings of the text."""
        vectors = self._setting(setting).initial_vectors(load())
        return Adapted(EmbeddingPrefix(SoftPrompt(vectors, {"method": self.name, "text": self.text})))

    def _setting(self, setting: Setting) -> Setting:
        options = replace(setting.optimization, initialization="text", initialization_text=self.text)
        return replace(setting, optimization=options)
