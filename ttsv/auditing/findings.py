"""What an audit found: frames and plain numbers, from which page, figures and files are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ttsv.auditing.release_files import ReleaseFolder


@dataclass(frozen=True)
class VectorFindings:
    """One vector V (L, d) against its candidates.

    ``candidates``: a row per order and seed (``order``, ``seed``, ``correlation``, ``relative_drift``, and ``same_draw``: the best
    candidate under another name or in another precision), best first. ``matched``: whether the best is beyond chance.
    ``initial``: the best candidate's vectors (L, d). ``rows``: a row per virtual token. ``summary``: the numbers of the whole.
    """

    vectors: npt.NDArray[np.float32]
    initial: npt.NDArray[np.float32]
    candidates: pd.DataFrame
    matched: bool
    rows: pd.DataFrame
    summary: Mapping[str, float]

    @property
    def best(self) -> str:
        """The best candidate, in words."""
        return f"{self.candidates['order'].iloc[0]}, seed {self.candidates['seed'].iloc[0]}"

    def null(self) -> "pd.Series[float]":
        """Return the correlations with all candidates that are not the best draw under another name."""
        return self.candidates.loc[~self.candidates["same_draw"], "correlation"]


@dataclass(frozen=True)
class CompletionFindings:
    """One file of completions.

    ``rows``: a row per completion (``ttsv.auditing.verdicts.graded``). ``rates``: see ``ttsv.auditing.rates``. ``disagreements``: the
    completions whose verdicts differ. ``readings``: see ``ttsv.auditing.verdicts.reread``. ``outputs``: a row per output block below
    a program. ``metrics``: the released ones, empty where none lie beside the file. ``problems_found``: how many completions' questions
    the task data hold with the same gold answer, None where no task data were given.
    """

    rows: pd.DataFrame
    rates: pd.DataFrame
    disagreements: pd.DataFrame
    readings: pd.DataFrame
    outputs: pd.DataFrame
    metrics: Mapping[str, Any]
    problems_found: int | None


@dataclass(frozen=True)
class FolderFindings:
    """What was found in one folder of the release; None for a part whose file the folder does not hold."""

    folder: ReleaseFolder
    vector: VectorFindings | None
    completions: CompletionFindings | None


def refuted_outputs(found: CompletionFindings) -> pd.DataFrame:
    """Return the output blocks that contradict arithmetic and those below a program that is not Python, with the completion's verdicts."""
    refuted = found.outputs[found.outputs["status"].isin(["contradicts", "not Python"])]
    return refuted.merge(found.rows[["line", "sample", "released", "math_verify"]], on=["line", "sample"])
