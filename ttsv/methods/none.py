"""The model alone, under the same prompt: what every gain is measured against."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttsv.methods.base import Adapted, Load, Method, Setting


@dataclass(frozen=True)
class NoPrefix(Method):
    """No adaptation."""

    name: str = "none"
    kind: ClassVar[None] = None

    def determined_by(self, setting: Setting) -> dict[str, Any]:
        """Nothing decides it."""
        return {}

    def adapt(self, load: Load, setting: Setting, work: Path) -> Adapted:
        """Return no adaptation."""
        return Adapted(None)
