"""SLOT (Hu et al., arXiv 2505.12392): for each prompt a vector added to the last hidden states, fitted to predict the prompt itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ttsv.adaptations import HiddenShift
from ttsv.cost import Work
from ttsv.methods.base import Adapted, Load, Method, Setting
from ttsv.models import LanguageModel
from ttsv.optimization import Optimization
from ttsv.placement import assemble
from ttsv.progress import bar
from ttsv.records import Prompt


@dataclass(frozen=True)
class SLOT(Method):
    """``steps`` of AdamW on the next-token loss of the prompt, from a zero vector. Prompts side by side change rounding at most."""

    steps: int
    learning_rate: float
    weight_decay: float
    adam_eps: float
    batch_size: int = 8
    name: str = "slot"
    kind: ClassVar[type[HiddenShift]] = HiddenShift

    def work(self, options: Optimization, problems: int, prompt: float) -> Work:
        """Return that of its steps: the layers are run once for each prompt, the head at every step."""
        return Work(self.steps, problems, prompt, predicted=prompt, layer_passes=1 / self.steps)

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Return model, prompts and the steps; there is no randomness."""
        own = {name: value for name, value in asdict(self).items() if name != "name"}
        device = setting.engine_key.get("device")
        return {"model": dict(setting.model_key), "device": device, "prompts": setting.prompts_key, **own}

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Fit every prompt's vector."""
        lm, shifts = load(), []
        with bar(len(setting.prompts), 0, self.name, "prompt") as shown:
            for start in range(0, len(setting.prompts), self.batch_size):
                chosen = setting.prompts[start : start + self.batch_size]
                shifts.append(self._fit(lm, chosen))
                shown.update(len(chosen))
        tokens = sum(len(prompt.token_ids) for prompt in setting.prompts)
        ids = tuple(prompt.problem_id for prompt in setting.prompts)
        return Adapted(HiddenShift(ids, torch.cat(shifts)), details={"tokens_loss": tokens, "steps": self.steps})

    def _fit(self, lm: LanguageModel, prompts: Sequence[Prompt]) -> Tensor:
        """Return the vectors (B, d) of these prompts, fp32 on the CPU. Only the output layer is run again at each step."""
        hidden, mask, targets = last_hidden_states(lm, prompts)
        shift = torch.nn.Parameter(torch.zeros(len(prompts), lm.hidden_size, device=lm.device))
        optimizer = torch.optim.AdamW([shift], lr=self.learning_rate, eps=self.adam_eps, weight_decay=self.weight_decay)
        for _ in range(self.steps):
            optimizer.zero_grad()
            for row in range(len(prompts)):
                inside = hidden[row, :-1][mask[row]]
                logits = lm.model.get_output_embeddings()(inside + shift[row].to(inside))
                torch.autograd.backward(cross_entropy(logits.float(), targets[row][mask[row]]))
            optimizer.step()
        return shift.detach().cpu()


@torch.no_grad()
def last_hidden_states(lm: LanguageModel, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the output embeddings see of B prompts: hidden states (B, T, d), which predictions count (B, T-1) bool, and the ids
    (B, T-1) they should give."""
    ids = [prompt.token_ids for prompt in prompts]
    batch = assemble(lm, torch.zeros(0, lm.hidden_size), ids, [[] for _ in ids], "padding_prefix_prompt")
    hidden = lm.model.base_model(
        inputs_embeds=batch.embeddings,
        attention_mask=batch.attention,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    width = batch.attention.shape[1]
    padded = [[0] * (width - len(row)) + list(row) for row in ids]
    return hidden, batch.attention[:, :-1].bool(), torch.tensor(padded, device=lm.device)[:, 1:]
