"""What a completion's text shows by itself: code, boxes, imitated tool output, and how it ends."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ttsv.scoring.extract import box_ends

LIMIT_SENTENCE = "Reach max function call limit."
GOES_ON = 100
"""Characters after a box from which the text is said to go on: more than closing a sentence takes."""

_ENDED = re.compile(r"(?:[.!?][*_)\"']*|\\\]|\\\)|\$|```|\})$")
_LONGEST_PERIOD, _LOOP = 100, 300


@dataclass(frozen=True, slots=True)
class Trait:
    """A property of a completion, the rule it is told by, and the test; ``cap``, the generation cap in tokens, is given to each test."""

    name: str
    rule: str
    holds: Callable[[str, int], bool]


def could_have_reached(text: str, cap: int) -> bool:
    """Tell whether ``cap`` tokens can be in the text: byte-level tokens hold one byte at least, so fewer bytes are fewer tokens."""
    return len(text.encode()) >= cap


def ends_unfinished(text: str) -> bool:
    r"""Tell whether the text stops inside a sentence, a formula or a loop, rather than after a sentence, formula, box or code block."""
    text = text.rstrip()
    inside_formula = any(
        text.rfind(opening) > text.rfind(closing) for opening, closing in ((r"\[", r"\]"), (r"\(", r"\)"))
    )
    return not _ENDED.search(text) or inside_formula or ends_in_loop(text)


def ends_in_loop(text: str) -> bool:
    """Tell whether the last 300 characters repeat one piece of at most 100."""
    tail = text[-_LOOP:]
    return len(tail) == _LOOP and any(tail[period:] == tail[:-period] for period in range(1, _LONGEST_PERIOD + 1))


def _goes_on(text: str, box: int) -> bool:
    ends = box_ends(text)
    return bool(ends) and len(text) - ends[box] > GOES_ON


TRAITS = (
    Trait("Python block", "holds a fenced block marked python", lambda text, cap: "```python" in text),
    Trait("output block", "holds a fenced block marked output", lambda text, cap: "```output" in text),
    Trait("call-limit sentence", f'holds "{LIMIT_SENTENCE}"', lambda text, cap: LIMIT_SENTENCE in text),
    Trait("box", r"holds \boxed", lambda text, cap: r"\boxed" in text),
    Trait("several boxes", "more than one closed box", lambda text, cap: len(box_ends(text)) > 1),
    Trait(
        "goes on after the first box",
        f"more than {GOES_ON} characters after the first closed box",
        lambda text, cap: _goes_on(text, 0),
    ),
    Trait(
        "goes on after the last box",
        f"more than {GOES_ON} characters after the last closed box",
        lambda text, cap: _goes_on(text, -1),
    ),
    Trait(
        "ends in a code block", "ends with the fence of a code block", lambda text, cap: text.rstrip().endswith("```")
    ),
    Trait(
        "truncated (inferred)",
        "could hold as many tokens as the cap (as many bytes at least), and stops inside a sentence, a formula or a loop",
        lambda text, cap: could_have_reached(text, cap) and ends_unfinished(text),
    ),
    Trait(
        "long enough for the cap",
        "could hold as many tokens as the cap (as many bytes at least): an upper bound of the truncated ones",
        could_have_reached,
    ),
    Trait(
        "ends in a loop",
        "the last 300 characters repeat one piece of at most 100",
        lambda text, cap: ends_in_loop(text),
    ),
)


def traits_of(text: str, cap: int) -> Mapping[str, bool]:
    """Return every trait of a completion by name."""
    return {trait.name: trait.holds(text, cap) for trait in TRAITS}
