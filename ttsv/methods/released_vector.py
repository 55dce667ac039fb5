"""A vector from a file: one that the authors released, or one of our own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttsv.adaptations import EmbeddingPrefix
from ttsv.methods.base import Adapted, Load, Method, Setting
from ttsv.records import UserError
from ttsv.soft_prompt import SoftPrompt, load_soft_prompt


@dataclass(frozen=True)
class ReleasedVector(Method):
    """The vector in ``path``: a released ``prefix_embeddings.pt``, a safetensors file, or a folder that holds one of them."""

    path: str | None
    name: str = "released_vector"
    kind: ClassVar[type[EmbeddingPrefix]] = EmbeddingPrefix

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return the hash of the numbers in the file, and the model, which they must fit."""
        return {"model": dict(setting.model_key), "vectors": self._load().content_digest()}

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Return the vector.

        Raises:
            UserError: if it was made for a model of another width.
        """
        soft_prompt, lm = self._load(), load()
        width = soft_prompt.vectors.shape[1]
        if width != lm.hidden_size:
            raise UserError(
                f"the vector in {self.path} has width {width}, but {lm.name} has hidden size {lm.hidden_size}; "
                f"it was made for another model (1536: Qwen2.5-Math-1.5B, 3584: Qwen2.5-Math-7B)"
            )
        return Adapted(EmbeddingPrefix(soft_prompt), details={"file": Path(str(self.path)).name})

    def _load(self) -> SoftPrompt:
        if not self.path:
            raise UserError(
                "method=released_vector needs a file: vector=FILE, a prefix_embeddings.pt or a vector.safetensors"
            )
        return load_soft_prompt(Path(self.path).expanduser())
