"""The same completions cut at a place and graded again: how many verdicts hang on what follows.

A cut is a reading of the same text. What the model would have written had it been stopped there, or without code, the files cannot tell.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ttsv.scoring.extract import box_ends


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a completion is cut before it is graded; ``cut`` returns the text up to there, the whole text where the place is missing."""

    name: str
    cut: Callable[[str], str]


def _first_box(text: str) -> str:
    ends = box_ends(text)
    return text[: ends[0]] if ends else text


def _before(mark: str) -> Callable[[str], str]:
    return lambda text: text.partition(mark)[0]


READINGS = (
    Reading("up to the first closed box", _first_box),
    Reading("up to the first output block", _before("```output")),
    Reading("up to the first Python block", _before("```python")),
)
