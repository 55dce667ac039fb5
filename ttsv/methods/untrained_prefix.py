"""The initial vector without a single update: how much of a gain is there before anything is learned."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttsv.adaptations import EmbeddingPrefix
from ttsv.methods.base import Adapted, Load, Setting
from ttsv.soft_prompt import SoftPrompt, initialize


@dataclass(frozen=True)
class UntrainedPrefix:
    """The vector that ``ttsv`` starts from, with the same initialisation and seed."""

    name: str = "untrained_prefix"
    kind: ClassVar[type | None] = EmbeddingPrefix
    optimizes: ClassVar[bool] = False

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return initialisation, length, seed and model; the prompts only where the initialisation looks at them."""
        options = setting.optimization
        return {
            "model": dict(setting.model_key),
            "initialization": options.initialization,
            "initialization_text": options.initialization_text,
            "length": options.length,
            "seed": setting.seeds.initialization,
            "prompts": setting.prompts_key if options.initialization == "data_statistics" else None,
        }

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Return the initial vector."""
        options, seed = setting.optimization, setting.seeds.initialization
        vectors = initialize(
            options.initialization, options.length, load(), seed, setting.prompts, options.initialization_text
        )
        return Adapted(
            EmbeddingPrefix(
                SoftPrompt(vectors, {"method": self.name, "seed": seed, "initialization": options.initialization})
            )
        )
