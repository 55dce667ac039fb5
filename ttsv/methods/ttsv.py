"""Test-time steering vectors (arXiv 2512.04748): one soft prompt, optimised without labels on the prompts themselves."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttsv.adaptations import EmbeddingPrefix
from ttsv.cost import Work, work_of
from ttsv.methods.base import Adapted, Load, Method, Setting
from ttsv.methods.optimizing import optimized, optimized_by
from ttsv.optimization import Optimization
from ttsv.trainables import SharedPrefix


@dataclass(frozen=True)
class TTSV(Method):
    """The soft prompt that minimises the entropy of the model's own answers; the recipe's ``optimization`` says how.

    With ``maximize`` it goes up the entropy instead: the control for what moving the vector does, whatever the direction.
    """

    maximize: bool = False
    name: str = "ttsv"
    kind: ClassVar[type[EmbeddingPrefix]] = EmbeddingPrefix

    def work(self, options: Optimization, problems: int, prompt: float) -> Work:
        """Return that of the recipe's optimisation."""
        return work_of(options, problems, prompt, options.length)

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return model, prompts, every option and every seed."""
        return optimized_by(setting) | ({"maximize": True} if self.maximize else {})

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Optimise, going on from a checkpoint in ``work`` if there is one."""
        lm = load()
        trainable = SharedPrefix(setting.initial_vectors(lm), maximize=self.maximize)
        return optimized(lm, trainable, setting, work, {"method": self.name, "seeds": asdict(setting.seeds)})
