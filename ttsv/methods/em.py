"""Entropy minimisation over the model's weights, all of them or a LoRA: what the paper compares TTSV with.

The paper does not state its settings. Objective, rollouts and schedule are those of the recipe, as for TTSV; the learning rate is absolute.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ttsv.adaptations import Adaptation, ChangedWeights, LowRank
from ttsv.cost import Work, work_of
from ttsv.methods.base import Adapted, Load, Method, Setting
from ttsv.methods.optimizing import optimized, optimized_by
from ttsv.optimization import Optimization
from ttsv.trainables import AllWeights, LoRA, Trainable

HOST_BYTES = 24
"""Bytes a parameter that the host holds beside the model where all weights move (measured, fp32)."""


@dataclass(frozen=True)
class EntropyMinimization(Method):
    """All weights move. For N parameters the host holds up to ``HOST_BYTES`` N bytes, and a checkpoint 16 N.

    ``keep`` writes the weights at every save, 4 N bytes each: the curves over updates need it.
    """

    learning_rate: float
    keep: bool = False
    name: str = "em"
    kind: ClassVar[type[Adaptation]] = ChangedWeights

    def work(self, options: Optimization, problems: int, prompt: float) -> Work:
        """Return that of the recipe's optimisation without virtual tokens, with gradients, moments and copies of all weights."""
        common = work_of(options, problems, prompt, 0)
        return replace(common, layer_passes=3, head_passes=3, host_bytes=HOST_BYTES, device_copies=3)

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return model, prompts, the options that matter, every seed, and the method's own settings."""
        key = optimized_by(self._own(setting))
        for name in ("length", "initialization", "initialization_text"):
            del key["optimization"][name]
        return key | {"keep": self.keep}

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Optimise; the model that ``load`` gave is afterwards what it was."""
        lm, own = load(), self._own(setting)
        metadata = {"method": self.name, "seeds": asdict(setting.seeds)}
        return optimized(lm, self._trainable(setting), own, work, metadata)

    def _trainable(self, setting: Setting) -> Trainable:
        return AllWeights(self.keep)

    def _own(self, setting: Setting) -> Setting:
        # The last weights are reported, whatever is kept on the way.
        options = replace(
            setting.optimization, learning_rate=self.learning_rate, learning_rate_unit="absolute", reported="last"
        )
        # A checkpoint is large: one an epoch, unless fewer are asked for.
        rare = max(setting.checkpoint_every, options.saves(len(setting.prompts)))
        return replace(setting, optimization=options, checkpoint_every=rare)


@dataclass(frozen=True)
class LoRAEntropyMinimization(EntropyMinimization):
    """Adapters of rank ``rank``, scaled by ``alpha / rank``, move; the initialisation's seed draws their projections."""

    keep: bool = True
    rank: int = 16
    alpha: int = 32
    name: str = "em_lora"
    kind: ClassVar[type[Adaptation]] = LowRank

    def work(self, options: Optimization, problems: int, prompt: float) -> Work:
        """Return that of the recipe's optimisation without virtual tokens; the adapters are small beside the weights."""
        return work_of(options, problems, prompt, 0)

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return what decides entropy minimisation, and the adapter's shape."""
        return super().determined_by(setting) | {"rank": self.rank, "alpha": self.alpha}

    def _trainable(self, setting: Setting) -> Trainable:
        return LoRA(self.rank, self.alpha, setting.seeds.initialization, self.keep)
