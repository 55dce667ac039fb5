"""Test-time steering vectors (arXiv 2512.04748): one soft prompt, optimised without labels on the prompts themselves."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttsv.adaptations import EmbeddingPrefix
from ttsv.methods.base import Adapted, Load, Setting
from ttsv.optimize import Checkpoints, optimize
from ttsv.soft_prompt import SoftPrompt


@dataclass(frozen=True)
class TTSV:
    """The soft prompt that minimises the entropy of the model's own answers; the recipe's ``optimization`` says how."""

    name: str = "ttsv"
    kind: ClassVar[type | None] = EmbeddingPrefix
    optimizes: ClassVar[bool] = True

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return model, prompts, every option and every seed."""
        return {
            "model": dict(setting.model_key),
            "engine": dict(setting.engine_key),
            "prompts": setting.prompts_key,
            "optimization": asdict(setting.optimization),
            "seeds": asdict(setting.seeds),
        }

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Optimise, going on from a checkpoint in ``work`` if there is one."""
        result = optimize(
            load(),
            setting.prompts,
            setting.optimization,
            setting.seeds,
            setting.engine,
            Checkpoints(work),
            setting.checkpoint_every,
        )
        metadata = {
            "method": self.name,
            "update": result.reported_update,
            "seeds": asdict(setting.seeds),
            "note": result.note,
        }
        return Adapted(
            EmbeddingPrefix(SoftPrompt(result.vectors, metadata)),
            result.history,
            result.note,
            {"reported_update": result.reported_update, "updates": len(result.history)},
        )
