"""Generation on all processes of a run: each decodes some of the batches."""

from collections.abc import Iterator, Sequence

from ttsv import ranks
from ttsv.adaptations import Adaptation
from ttsv.engines.base import Decoding, Engine, Progress, Request, batches
from ttsv.engines.hf import HFEngine
from ttsv.models import LanguageModel
from ttsv.records import Completion


def generate(
    engine: Engine,
    lm: LanguageModel,
    requests: Sequence[Request],
    adaptation: Adaptation | None,
    decoding: Decoding,
    progress: Progress = lambda slots: None,
) -> Iterator[dict[int, Completion]]:
    """Yield what ``engine.generate`` yields. Which rows share a batch does not depend on the number of processes.

    An engine with parallelism of its own generates in the first process alone.
    """
    if ranks.size() == 1 or not isinstance(engine, HFEngine):
        yield from engine.generate(lm, requests, adaptation, decoding, progress)
        return
    whole = batches(requests, decoding)
    for start in range(0, len(whole), ranks.size()):
        chosen = whole[start : start + ranks.size()]
        parts = [[requests[i] for i in batch] for batch in chosen]
        told = [progress, *[None] * (len(parts) - 1)]
        jobs = [(engine, lm, part, adaptation, decoding, own) for part, own in zip(parts, told, strict=True)]
        found = ranks.call(_one_batch, jobs)
        progress(decoding.sampling.max_new_tokens * sum(len(part) for part in parts[1:]))
        for batch, completions in zip(chosen, found, strict=True):
            yield dict(zip(batch, completions, strict=True))


def _one_batch(
    engine: HFEngine,
    lm: LanguageModel,
    requests: Sequence[Request],
    adaptation: Adaptation | None,
    decoding: Decoding,
    progress: Progress | None,
) -> list[Completion]:
    (found,) = engine.generate(lm, requests, adaptation, decoding, progress or (lambda slots: None))
    return [found[i] for i in range(len(requests))]
