"""The sample-specific variant of TTSV: a fresh vector for each problem, optimised on that problem alone, then dropped."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from ttsv.adaptations import EmbeddingPrefixes
from ttsv.cost import Work, work_of
from ttsv.methods.base import Adapted, Load, Method, Setting
from ttsv.methods.optimizing import optimized, optimized_by
from ttsv.models import LanguageModel
from ttsv.optimization import Optimization
from ttsv.placement import Layout
from ttsv.records import Prompt, UserError
from ttsv.store import UNFINISHED
from ttsv.trainables import PrefixPerProblem


@dataclass(frozen=True)
class SampleTTSV(Method):
    """``updates`` per problem, each from ``samples`` responses to it; ``side_by_side`` problems share a batch, but no gradient.

    The paper does not say how many updates; in its shared variant each problem is seen once an epoch. Rows are laid out as in the corrected
    recipe whatever the recipe says, since in the released layout a problem would depend on those beside it.
    """

    updates: int
    samples: int = 1
    side_by_side: int = 8
    name: str = "ttsv_sample"
    kind: ClassVar[type[EmbeddingPrefixes]] = EmbeddingPrefixes

    def __post_init__(self) -> None:
        for name in ("updates", "samples", "side_by_side"):
            if getattr(self, name) < 1:
                raise UserError(f"method.{name}={getattr(self, name)} is out of range; expected at least 1")

    def work(self, options: Optimization, problems: int, prompt: float) -> Work:
        """Return that of all groups of problems together, the last of which may be smaller."""
        groups = -(-problems // self.side_by_side)
        own = self._options(options, self.updates * groups, min(problems, self.side_by_side))
        return work_of(own, problems * self.samples, prompt, options.length)

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return model, prompts, options and seeds. Which problems stand side by side can flip a near-tie of sampling, so it counts."""
        key = optimized_by(setting)
        for name in (
            "epochs",
            "updates",
            "batch_size",
            "shard_size",
            "fill_last_batch",
            "reported",
            "save_every",
            "layout",
        ):
            del key["optimization"][name]
        return key | {name: value for name, value in asdict(self).items() if name != "name"}

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Optimise group by group; a group that was finished is never redone."""
        if setting.optimization.clip_norm is not None:
            raise UserError(
                f"method={self.name} with recipe.optimization.clip_norm={setting.optimization.clip_norm}: a norm over several problems' "
                "gradients would make them depend on each other; set it to null"
            )
        lm = load()
        starts = range(0, len(setting.prompts), self.side_by_side)
        groups = [setting.prompts[start : start + self.side_by_side] for start in starts]
        found = [
            self._group(lm, group, setting, work / UNFINISHED / f"group_{i:04d}") for i, group in enumerate(groups)
        ]
        values = torch.cat([a.adaptation.values for a in found if isinstance(a.adaptation, EmbeddingPrefixes)])
        history = [{"group": i, **row} for i, a in enumerate(found) for row in a.history]
        notes = [f"problems {i * self.side_by_side + 1} and on: {a.note}" for i, a in enumerate(found) if a.note]
        adaptation = EmbeddingPrefixes(tuple(p.problem_id for p in setting.prompts), values)
        return Adapted(adaptation, history, "; ".join(notes) or None, {"updates": len(history)})

    def _group(self, lm: LanguageModel, prompts: Sequence[Prompt], setting: Setting, folder: Path) -> Adapted:
        folder.mkdir(parents=True, exist_ok=True)
        options = self._options(setting.optimization, self.updates, len(prompts))
        repeated = [prompt for prompt in prompts for _ in range(self.samples)]
        trainable = PrefixPerProblem(setting.initial_vectors(lm), tuple(p.problem_id for p in prompts))
        own = replace(setting, optimization=options, prompts=repeated)
        return optimized(lm, trainable, own, folder, {})

    def _options(self, options: Optimization, updates: int, problems: int) -> Optimization:
        return replace(
            options,
            epochs=None,
            updates=updates,
            batch_size=problems * self.samples,
            shard_size=None,
            fill_last_batch=False,
            layout=Layout(),
            micro_batch_size=options.micro_batch_size or options.shard_size,
        )
