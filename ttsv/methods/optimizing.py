"""What the methods that optimise share: what decides their result, and how a result of the loop becomes theirs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ttsv.checkpoints import Checkpoints
from ttsv.methods.base import Adapted, Setting
from ttsv.models import LanguageModel
from ttsv.optimize import optimize
from ttsv.trainables import Trainable


def optimized_by(setting: Setting) -> dict[str, Any]:
    """Return model, prompts, every option that decides something, and every seed."""
    return {
        "model": dict(setting.model_key),
        "engine": dict(setting.engine_key),
        "prompts": setting.prompts_key,
        "optimization": setting.optimization.key(),
        "seeds": asdict(setting.seeds),
    }


def optimized(
    lm: LanguageModel, trainable: Trainable, setting: Setting, work: Path, metadata: Mapping[str, Any]
) -> Adapted:
    """Run the loop, going on from a checkpoint in ``work`` if there is one."""
    result = optimize(
        lm,
        setting.prompts,
        trainable,
        setting.optimization,
        setting.seeds,
        setting.engine,
        Checkpoints(work),
        setting.checkpoint_every,
        metadata,
    )
    details = {"reported_update": result.reported_update, "updates": len(result.history)}
    return Adapted(result.adaptation, result.history, result.note, details)
