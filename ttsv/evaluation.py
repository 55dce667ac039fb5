"""How an adapted model is evaluated: decoding rules and samples per problem."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transformers import GenerationConfig

from ttsv.engines.base import Decoding, Request, own_sampling, resolve
from ttsv.records import Prompt, UserError
from ttsv.sampling import Sampling


@dataclass(frozen=True)
class Evaluation:
    """``samples`` completions per problem under ``decoding``; ``seed`` keys the random numbers where sampling is not greedy.

    ``sampling_from``: ``decoding`` uses the fields as written; ``generation_config`` keeps only ``max_new_tokens`` and takes the rest from
    the model, as the released evaluation does by passing nothing else.
    """

    decoding: Decoding
    samples: int
    seed: int
    sampling_from: Literal["decoding", "generation_config"]

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"evaluation.samples={self.samples} is out of range; expected at least 1")
        if self.sampling_from == "decoding":
            self._check_samples(self.decoding.sampling)

    def resolved(self, config: GenerationConfig) -> Decoding:
        """Return the decoding rules with nothing left to the model's generation config."""
        own = self.sampling_from == "generation_config"
        written = self.decoding.sampling
        sampling = own_sampling(config, written.max_new_tokens) if own else resolve(written, config)
        self._check_samples(sampling)
        return replace(self.decoding, sampling=sampling)

    def requests(self, prompts: Sequence[Prompt]) -> list[Request]:
        """Return every row to generate."""
        return [
            Request(prompt, sample, ("evaluation", self.seed, prompt.problem_id, sample))
            for prompt in prompts
            for sample in range(self.samples)
        ]

    def _check_samples(self, sampling: Sampling) -> None:
        if self.samples > 1 and sampling.greedy:
            raise UserError(
                f"evaluation.samples={self.samples} with temperature 0 would write the same text {self.samples} times; set "
                f"recipe.evaluation.decoding.sampling.temperature above 0 with sampling_from=decoding, or samples=1"
            )
