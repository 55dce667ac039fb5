"""Graded samples written by hand: a digit a row, 1 is right."""

import pandas as pd

from ttsv.tables import Cell


def rows_of(verdicts: str, samples: int = 1) -> pd.DataFrame:
    """One row per digit; with several samples, successive digits belong to one problem."""
    return pd.DataFrame(
        [
            {
                "problem_id": f"p{number // samples}",
                "sample": number % samples,
                "correct": digit == "1",
                "boxed": True,
                "finish_reason": "stop",
                "repetition": 0.0,
                "tokens": 10,
                "mean_entropy": 0.5,
                "flag": "ok",
            }
            for number, digit in enumerate(verdicts)
        ]
    )


def cell(method: str, verdicts: str, seed: int = 15, optimised: frozenset[str] = frozenset()) -> Cell:
    """A finished run."""
    return Cell({"method": method, "seed": seed}, rows_of(verdicts), optimised)
