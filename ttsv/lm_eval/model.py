"""The model type ``ttsv`` of lm-eval: its own transformers model with a soft prompt in front of every row.

lm-eval truncates, batches, pads and scores as it does for ``--model hf``; only the two places where rows reach the model are replaced, and
without a soft prompt not even those.
"""

import copy
from pathlib import Path
from typing import Any, Self

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch import Tensor

from ttsv.adaptations import Adaptation, EmbeddingPrefix
from ttsv.lm_eval.task import refuse_kind
from ttsv.models import LanguageModel
from ttsv.placement import Batch, assemble
from ttsv.records import UserError
from ttsv.soft_prompt import SoftPrompt, load_soft_prompt
from ttsv.stages import ADAPTATION, read_adaptation

NAME = "ttsv"


@register_model(NAME)
class SoftPromptLM(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """lm-eval's transformers model, with L virtual tokens directly before each row's first token.

    ``soft_prompt``: a ``vector.safetensors``, a released ``prefix_embeddings.pt``, a PEFT prompt-tuning adapter or an adapt stage's folder;
    None leaves lm-eval's model as it is. All other arguments are those of ``hf``. The L virtual tokens count against ``max_length``: a row
    that would not fit loses L more tokens on the left than without, and windows of rolling log-likelihoods are L tokens shorter.

    Raises:
        UserError: for code shipped with a model, another architecture than a causal one, or a soft prompt that does not fit the model.
    """

    def __init__(self, pretrained: Any, soft_prompt: str | SoftPrompt | None = None, **arguments: Any) -> None:
        if arguments.get("trust_remote_code"):
            raise UserError(
                "trust_remote_code=True was asked for; code shipped with a model is never run, leave it out"
            )
        self._prefix: Tensor | None = None
        super().__init__(pretrained, **arguments)
        if soft_prompt is None:
            return
        if self.backend != "causal":
            raise UserError(f"a soft prompt needs a causal language model, got a {self.backend} one")
        if not isinstance(soft_prompt, SoftPrompt):
            soft_prompt = read_soft_prompt(Path(soft_prompt).expanduser())
        name = pretrained if isinstance(pretrained, str) else "the model"
        self._lm = LanguageModel(name, self.model, self.tokenizer, "")
        self._prefix = None if soft_prompt is None else _fitting(soft_prompt, self._lm)

    @classmethod
    def around(cls, lm: LanguageModel, adaptation: Adaptation | None, **arguments: Any) -> Self:
        """Return the model type around a loaded model; its tokenizer is copied, since lm-eval sets a padding token.

        Raises:
            UserError: for a kind that adapts to each problem by itself. Changed weights are the model's own while they are applied.
        """
        refuse_kind(None if adaptation is None else type(adaptation))
        prompt = adaptation.soft_prompt if isinstance(adaptation, EmbeddingPrefix) else None
        return cls(lm.model, prompt, tokenizer=copy.deepcopy(lm.tokenizer), **arguments)

    @property
    def prefix_length(self) -> int:
        """The number L of virtual tokens."""
        return 0 if self._prefix is None else len(self._prefix)

    @property
    def max_length(self) -> int:
        """The tokens of text that fit into the model's window beside the virtual ones."""
        return int(super().max_length) - self.prefix_length

    def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the logits (B, T, vocabulary) of right-padded token ids (B, T).

        Padding is not masked: it stands behind the text, where a causal model does not look.
        """
        if self._prefix is None:
            return super()._model_call(inps, attn_mask, labels)  # type: ignore[no-any-return]
        batch = self._placed(inps.tolist())
        dtype = self.mixed_precision_dtype
        with torch.no_grad(), torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            output = self.model(
                inputs_embeds=batch.embeddings, attention_mask=batch.attention, position_ids=batch.positions
            )
        logits: Tensor = output.logits[:, self.prefix_length :]
        return logits

    def _model_generate(
        self, context: Tensor, max_length: int, stop: list[str], attention_mask: Tensor | None = None, **rules: Any
    ) -> Tensor:
        """Return left-padded token ids (B, T), each row continued by ``max_length`` - T tokens unless it stops by itself.

        ``generate`` reads the embeddings in its first step and goes by the token ids in everything else, such as stop strings and
        repetition penalties; from a maximal length it takes off the width of the embeddings, which is therefore added here.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(context)
        if self._prefix is not None:
            batch = self._placed([row[mask.bool()].tolist() for row, mask in zip(context, attention_mask, strict=True)])
            rules |= {"inputs_embeds": batch.embeddings, "position_ids": batch.positions}
            attention_mask, max_length = batch.attention, max_length + batch.embeddings.shape[1]
        generated: Tensor = super()._model_generate(context, max_length, stop, attention_mask=attention_mask, **rules)
        return generated

    def _placed(self, rows: list[list[int]]) -> Batch:
        """Return [padding, V, text] for rows of token ids."""
        assert self._prefix is not None
        return assemble(self._lm, self._prefix, rows, [[] for _ in rows], "padding_prefix_prompt")


def read_soft_prompt(path: Path) -> SoftPrompt | None:
    """Return the soft prompt of a file or a folder; None for an adapt stage that changes nothing.

    Raises:
        UserError: if there is none, or the stage holds another kind of adaptation.
    """
    if not (path / ADAPTATION).is_file():
        return load_soft_prompt(path)
    adaptation = read_adaptation(path)
    if adaptation is not None and not isinstance(adaptation, EmbeddingPrefix):
        raise UserError(f"soft_prompt={path} holds {type(adaptation).__name__}; expected an embedding prefix")
    return None if adaptation is None else adaptation.soft_prompt


def _fitting(soft_prompt: SoftPrompt, lm: LanguageModel) -> Tensor | None:
    """Return the vectors, or None where there are none at all."""
    vectors = soft_prompt.vectors
    if vectors.shape[1] != lm.hidden_size:
        raise UserError(
            f"the soft prompt has width {vectors.shape[1]}, {lm.name} has embeddings of width {lm.hidden_size}; "
            "it was made for another model"
        )
    return vectors if len(vectors) else None
