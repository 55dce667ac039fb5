"""Columns of a page's tables: numbers and intervals as texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ttsv.rendering import interval, number

Frames = Mapping[str, pd.DataFrame]
"""The tables of a suite by name (:data:`ttsv.controls.page.FRAMES`)."""


def texts(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Return columns of texts as a table, those that are blank throughout left out."""
    return pd.DataFrame({name: values for name, values in columns.items() if any(values)})


def numbers(values: "pd.Series[Any]", form: str = ".1f") -> list[str]:
    """Return numbers as texts, blanks where there are none."""
    return [number(value, form) for value in values]


def intervals(frame: pd.DataFrame, form: str = ".1f", names: tuple[str, str] = ("low", "high")) -> list[str]:
    """Return intervals as texts."""
    return [interval(low, high, form) for low, high in zip(frame[names[0]], frame[names[1]], strict=True)]


def pairs(frame: pd.DataFrame, first: str, second: str) -> list[str]:
    """Return two counts as one text."""
    return [f"{a} / {b}" for a, b in zip(frame[first], frame[second], strict=True)]
