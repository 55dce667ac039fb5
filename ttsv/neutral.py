"""Options of the optimisation that decide nothing: they stay out of keys and comparisons, so that older results stay valid."""

from collections.abc import Mapping
from typing import Any

NEUTRAL = {"rollout_updates": 1}
"""Options that came after results had been stored, with the value at which they change nothing."""


UNSEEN = {"activation_checkpointing"}
"""Options that change how a result is computed and nothing of it."""


def deciding(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the optimisation's options that decide its result."""
    neutral = {name for name, value in NEUTRAL.items() if options.get(name) == value}
    return {name: value for name, value in options.items() if name not in UNSEEN | neutral}
