"""Multiple choice: options in a seeded order, lettered into the question; the gold answer becomes a letter."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase


@dataclass(frozen=True)
class MultipleChoice:
    """``distractors`` are the fields of the wrong options; the right one is the task's gold field.

    Each problem's order depends on ``seed`` and its id alone, so it survives subsets and reordered files.
    """

    distractors: Sequence[str]
    seed: int = 0

    def arrange(self, question: str, right: str, wrong: Sequence[str], problem_id: str) -> tuple[str, str]:
        """The question followed by its lettered options, and the letter of the right one."""
        options = [right, *wrong]
        key = hashlib.sha256(f"choices|{self.seed}|{problem_id}".encode()).digest()
        order = list(range(len(options)))
        random.Random(int.from_bytes(key, "big")).shuffle(order)
        lines = [f"({letter}) {options[index].strip()}" for letter, index in zip(ascii_uppercase, order, strict=False)]
        return question.rstrip() + "\n\n" + "\n".join(lines), ascii_uppercase[order.index(0)]
