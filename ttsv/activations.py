"""How far an adaptation moves the hidden states of the prompts, layer by layer: the paper's bias amplification."""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ttsv.adaptations import Adaptation
from ttsv.models import LanguageModel
from ttsv.placement import assemble
from ttsv.progress import bar
from ttsv.records import Prompt


def hidden_states(lm: LanguageModel, prompts: Sequence[Prompt], adaptation: Adaptation | None) -> list[Tensor]:
    """Return for each of B prompts the hidden states of its own tokens, (layers + 1, T, d) in fp32 on the CPU; the first is the input."""
    ids = [prompt.token_ids for prompt in prompts]
    prefix = torch.zeros(0, lm.hidden_size)
    if adaptation:
        prefix = adaptation.prefix(lm, [prompt.problem_id for prompt in prompts])
    with torch.inference_mode(), adaptation.applied(lm) if adaptation else nullcontext():
        batch = assemble(lm, prefix, ids, [[] for _ in ids], "padding_prefix_prompt")
        found = lm.model(
            inputs_embeds=batch.embeddings,
            attention_mask=batch.attention,
            position_ids=batch.positions,
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=1,
        ).hidden_states
        layers = torch.stack([layer.float().cpu() for layer in found])
    return [layers[:, row, -len(tokens) :] for row, tokens in enumerate(ids)]


def drift(plain: Tensor, moved: Tensor) -> pd.DataFrame:
    """Compare hidden states (layers + 1, T, d) of one prompt without and with an adaptation.

    A row per ``layer``: ``relative_shift`` is the mean over the prompt's tokens of |moved - plain| / |plain|, ``cosine`` the mean cosine of
    the two; ``last_relative_shift`` and ``last_cosine`` are those of the prompt's last token, from which the answer starts.
    """
    shift = (moved - plain).norm(dim=-1) / plain.norm(dim=-1).clamp(min=1e-12)
    cosine = cosine_similarity(moved, plain, dim=-1)
    return pd.DataFrame(
        {
            "layer": np.arange(len(plain)),
            "relative_shift": shift.mean(1).numpy(),
            "cosine": cosine.mean(1).numpy(),
            "last_relative_shift": shift[:, -1].numpy(),
            "last_cosine": cosine[:, -1].numpy(),
        }
    )


def measure(
    lm: LanguageModel, prompts: Sequence[Prompt], adaptation: Adaptation | None, batch_size: int = 8
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return :func:`drift` for every prompt (with its ``problem_id``), and the last layer's state of each prompt's last token.

    The second frame has ``problem_id`` and ``state``, a list of d numbers.
    """
    drifts, states = [], []
    with bar(len(prompts), 0, "activations", "prompt") as shown:
        for start in range(0, len(prompts), batch_size):
            chosen = prompts[start : start + batch_size]
            plain = hidden_states(lm, chosen, None)
            moved = hidden_states(lm, chosen, adaptation) if adaptation else plain
            for prompt, before, after in zip(chosen, plain, moved, strict=True):
                drifts.append(drift(before, after).assign(problem_id=prompt.problem_id))
                states.append({"problem_id": prompt.problem_id, "state": after[-1, -1].tolist()})
            shown.update(len(chosen))
    return pd.concat(drifts, ignore_index=True), pd.DataFrame(states)
