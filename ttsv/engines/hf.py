"""Generation with transformers models: one lean decoding loop that gives what ``generate`` gives, and stops each row by itself.

``generate`` keeps finished rows in the batch, has no random stream per row and no rule of the release's kind for stop strings.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from ttsv.adaptations import KINDS, Adaptation
from ttsv.engines.base import Decoding, Progress, Request, batches, resolve
from ttsv.engines.kv_cache import buffered_cache, grouped_attention
from ttsv.engines.linear_layers import weights_first
from ttsv.engines.steps import GrowingSteps, StaticSteps, forward
from ttsv.leading_columns import LeadingColumns, shareable, shared_columns
from ttsv.models import LanguageModel
from ttsv.objectives import raw_entropy
from ttsv.placement import Batch, assemble, group_by_length
from ttsv.records import Completion, Prompt
from ttsv.sampling import draw, uniforms

log = logging.getLogger(__name__)

STRING_WINDOW = 24
"""Latest tokens of a row that are decoded to look for a stop string."""

PREFILL_TOKENS = 8192
"""Prompt tokens that are computed at once."""


@dataclass(frozen=True)
class HFEngine:
    """Batched decoding with transformers.

    Finished rows leave the batch when at most ``keep_share`` of its rows still write; 0 keeps them all to the end. With a
    ``static_cache`` the shapes of a step stay as they are for many steps, which are then replayed as a CUDA graph; ``auto``: on CUDA.
    """

    keep_share: float = 0.75
    static_cache: Literal["auto", True, False] = "auto"
    name: str = "hf"
    supports: ClassVar[frozenset[type]] = frozenset(KINDS.values())
    incidental: ClassVar[frozenset[str]] = frozenset()

    def check(self, decoding: Decoding) -> None:
        """Accept all rules."""

    def provenance(self) -> dict[str, Any]:
        """Return nothing: it is part of this environment."""
        return {}

    def generate(
        self,
        lm: LanguageModel,
        requests: Sequence[Request],
        adaptation: Adaptation | None,
        decoding: Decoding,
        progress: Progress = lambda slots: None,
    ) -> Iterator[dict[int, Completion]]:
        """Yield finished batches as {index in ``requests``: completion}; the longest prompts come first when sorted."""
        _warn_of_long_rows(lm, requests, adaptation, decoding)
        for chosen in batches(requests, decoding):
            run = _Run(lm, [requests[i] for i in chosen], adaptation, decoding, self, progress)
            with adaptation.applied(lm) if adaptation else nullcontext():
                completions = run.completions()
            yield dict(zip(chosen, completions, strict=True))


def _warn_of_long_rows(
    lm: LanguageModel, requests: Sequence[Request], adaptation: Adaptation | None, decoding: Decoding
) -> None:
    prefix = adaptation.prefix(lm, [r.prompt.problem_id for r in requests[:1]]).shape[-2] if adaptation else 0
    longest = max((len(r.prompt.token_ids) for r in requests), default=0) + prefix + decoding.sampling.max_new_tokens
    if lm.max_positions is not None and longest > lm.max_positions:
        log.warning("rows may grow to %d tokens, but %s was made for %d positions", longest, lm.name, lm.max_positions)


@contextmanager
def shifted(lm: LanguageModel, shift: Callable[[], Tensor | None]) -> Iterator[None]:
    """Add ``shift()`` (B, d), as it is at each forward pass, to the hidden states (B, T, d) that the output embeddings see."""

    def add(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        by = shift()
        return None if by is None else (inputs[0] + by[:, None].to(inputs[0]), *inputs[1:])

    hook = lm.model.get_output_embeddings().register_forward_pre_hook(add)
    try:
        yield
    finally:
        hook.remove()


@dataclass
class _Row:
    """One response being written."""

    request: Request
    ids: list[int] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    ended: bool = False
    holds_string: bool = False


class _Run:
    """One batch from prefill to the last stop."""

    def __init__(
        self,
        lm: LanguageModel,
        requests: Sequence[Request],
        adaptation: Adaptation | None,
        decoding: Decoding,
        engine: HFEngine,
        progress: Progress,
    ) -> None:
        self.lm, self.decoding, self.keep_share, self.progress = lm, decoding, engine.keep_share, progress
        self.static = lm.device.type == "cuda" if engine.static_cache == "auto" else engine.static_cache
        self.static &= lm.attends_everywhere and lm.takes_masks and lm.replayable
        self.shares = shareable(lm)  # asked for here, before grouped attention takes the place of sdpa
        self.sampling = resolve(decoding.sampling, lm.generation_config)
        self.end_ids = decoding.stopping.ids(lm)
        self.rows = [_Row(request) for request in requests]
        problems = [r.prompt.problem_id for r in requests]
        self.prefix = adaptation.prefix(lm, problems) if adaptation else torch.zeros(0, lm.hidden_size)
        shift = adaptation.shift(problems) if adaptation else None
        self.shift = None if shift is None else shift.to(lm.device)
        self.random = np.zeros((len(requests), 0))
        if not self.sampling.greedy:
            self.random = np.stack([uniforms(self.sampling.max_new_tokens, *r.stream) for r in requests])
        self.seen: Tensor | None = None

    def completions(self) -> list[Completion]:
        """Decode until every row has ended and return one completion a row."""
        with shifted(self.lm, lambda: self.shift), grouped_attention(self.lm), weights_first(self.lm):
            self._decode()
        return [self._completion(row) for row in self.rows]

    @torch.inference_mode()
    def _decode(self) -> None:
        lm = self.lm
        prompts = [row.request.prompt.token_ids for row in self.rows]
        batch = assemble(lm, self.prefix, prompts, [[] for _ in prompts], self.decoding.order)
        logits, cache = self._prefill(batch)
        steps_of = StaticSteps if self.static else GrowingSteps
        next_logits = steps_of(lm, cache, batch.attention, batch.positions[:, -1:])
        inside = list(range(len(self.rows)))
        for step in range(self.sampling.max_new_tokens):
            tokens = self._next_tokens(logits, inside, step)
            if self._finished(step) or step + 1 == self.sampling.max_new_tokens:
                return
            living = [i for i, row in enumerate(inside) if not self.rows[row].ended]
            if len(living) <= self.keep_share * len(inside):
                keep = torch.tensor(living, device=lm.device)
                next_logits.keep(keep)
                tokens = tokens[keep]
                self.seen = None if self.seen is None else self.seen[keep]
                self.shift = None if self.shift is None else self.shift[keep]
                inside = [inside[i] for i in living]
            logits = next_logits(tokens)

    def _prefill(self, batch: Batch) -> tuple[Tensor, DynamicCache]:
        """Return the first logits (B, vocabulary) and the cache of a batch.

        Prompts of like length are computed together, a prompt that several rows share once, and what all prompts begin with once too.
        """
        if not self.lm.attends_everywhere:
            cache = DynamicCache(config=self.lm.model.config)
            return forward(self.lm, cache, batch.attention, batch.positions, inputs_embeds=batch.embeddings), cache
        rows, width = batch.attention.shape
        cache, shift = buffered_cache(self.lm, rows, width), self.shift
        copies = self._rows_by_prompt()
        firsts = [same[0] for same in copies]
        leading, shared = self._leading(batch, firsts)
        attended = batch.attention.bool().scatter(1, shared, False)
        logits: dict[int, Tensor] = {}
        for group in group_by_length(attended[firsts].sum(1).tolist(), rows, PREFILL_TOKENS):
            chosen = torch.tensor([firsts[i] for i in group], device=self.lm.device)
            columns = attended[chosen].any(0).nonzero().squeeze(1)
            attention, positions, embeddings = (
                tensor[chosen][:, columns] for tensor in (attended.long(), batch.positions, batch.embeddings)
            )
            part = leading.cache(self.lm)
            before = part.get_seq_length()
            self.shift = None if shift is None else shift[chosen]
            attention = pad(attention, (before, 0), value=1)
            found = forward(self.lm, part, attention, positions, inputs_embeds=embeddings)
            pairs = [(row, place) for place, i in enumerate(group) for row in copies[i]]
            filled, computed = torch.tensor(pairs, device=self.lm.device).T
            logits |= zip(filled.tolist(), found[computed], strict=True)
            for layer, new in zip(cache.layers, part.layers, strict=True):
                layer.place(filled, columns, *(t[computed, :, before:] for t in (new.keys, new.values)))
        self.shift = shift
        everywhere = torch.arange(rows, device=self.lm.device)
        # Last, since a group's columns take in those of its longest row.
        for layer, pair in zip(cache.layers, leading.layers, strict=False):
            layer.place(everywhere, shared, *pair)
        return torch.stack([logits[i] for i in range(rows)]), cache

    def _leading(self, batch: Batch, firsts: list[int]) -> tuple[LeadingColumns, Tensor]:
        """Return what the prompts of the batch begin with, and in which n columns each row holds it, (B, n); n may be 0."""
        if not self.shares:
            return LeadingColumns(()), batch.positions[:, :0]
        attended = [row.nonzero().squeeze(1) for row in batch.attention]
        rows = [(batch.embeddings[i][attended[i]], batch.positions[i][attended[i]]) for i in firsts]
        n = shared_columns(self.lm, rows, batch.attention.shape[1])
        leading = LeadingColumns.compute(self.lm, rows[0][0][:n], rows[0][1][:n]) if n else LeadingColumns(())
        return leading, torch.stack([columns[:n] for columns in attended])

    def _rows_by_prompt(self) -> list[list[int]]:
        """Return the batch's rows, those of the same problem and prompt together: prefix and shift belong to a problem."""
        found: dict[Prompt, list[int]] = {}
        for i, row in enumerate(self.rows):
            found.setdefault(row.request.prompt, []).append(i)
        return list(found.values())

    def _next_tokens(self, logits: Tensor, inside: list[int], step: int) -> Tensor:
        """Choose and record the next token of each row in the batch; return them, (rows,)."""
        logits = logits.float()
        if self.sampling.repetition_penalty != 1 and self.seen is None:
            self.seen = torch.zeros_like(logits, dtype=torch.bool)
        uniform = torch.zeros(len(inside), dtype=torch.float64)
        if not self.sampling.greedy:
            uniform = torch.from_numpy(self.random[inside, step])
        tokens = draw(logits, self.sampling, uniform, self.seen)
        if self.seen is not None:
            self.seen.scatter_(1, tokens[:, None], True)
        for index, token, nats in zip(inside, tokens.tolist(), raw_entropy(logits).tolist(), strict=True):
            row = self.rows[index]
            if row.ended:
                continue
            row.ids.append(token)
            row.entropies.append(nats)
            row.ended = token in self.end_ids
            self.progress(1 if not row.ended else self.sampling.max_new_tokens - step)
        return tokens

    def _finished(self, step: int) -> bool:
        """Tell whether the batch is done, by its rows or by the release's rule on strings."""
        if all(row.ended for row in self.rows):
            return True
        strings = self.decoding.stopping.batch_strings
        if not strings:
            return False
        for row in self.rows:
            if not row.holds_string:
                recent = self.lm.decode(row.ids[-STRING_WINDOW:], skip_special=False)
                row.holds_string = any(string in recent for string in strings)
        done = all(row.holds_string for row in self.rows)
        if done:
            unfinished = sum(not row.ended for row in self.rows)
            self.progress(unfinished * (self.sampling.max_new_tokens - step - 1))
        return done

    def _completion(self, row: _Row) -> Completion:
        stopping = self.decoding.stopping
        capped = len(row.ids) == self.sampling.max_new_tokens
        if stopping.batch_strings:
            text = self.lm.decode(row.ids).split(stopping.batch_strings[-1])[0]
        else:
            text = self.lm.decode(row.ids[:-1] if row.ended else row.ids)
        return Completion(
            problem_id=row.request.prompt.problem_id,
            sample=row.request.sample,
            text=text,
            token_ids=tuple(row.ids),
            finish_reason="stop" if row.ended or (row.holds_string and not capped) else "length",
            mean_entropy=sum(row.entropies) / len(row.entropies),
        )
