"""Numbers and tables as the page shows them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table; its columns are the first row's keys."""
    frame = pd.DataFrame(list(rows)).map(lambda value: str(value).replace("|", r"\|").replace("\n", " "))
    return str(frame.to_markdown(index=False, disable_numparse=True))


def share(rate: Mapping[str, Any]) -> str:
    """Return a rate (fields of ``ttsv.auditing.rates.Rate``) as count, percent and interval."""
    if not rate["n"]:
        return "none"
    return f"{rate['count']}/{rate['n']} = {rate['percent']:.1f} ({rate['low']:.1f} to {rate['high']:.1f})"


def one(rates: pd.DataFrame, measure: str, group: str, value: str) -> dict[str, Any]:
    """Return the single rate of a folder with these fields."""
    found = rates[(rates["measure"] == measure) & (rates["group"] == group) & (rates["value"] == value)]
    if len(found) != 1:
        raise KeyError(f"{len(found)} rates of {measure}, {group}, {value}; expected one")
    return {str(name): field for name, field in found.iloc[0].items()}


def code(text: object, longest: int = 60) -> str:
    """Return text as inline code, shortened; a blank for None or an empty text."""
    absent = text is None or (isinstance(text, float) and math.isnan(text))
    shown = "" if absent else " ".join(str(text).split())
    if not shown:
        return ""
    shown = shown if len(shown) <= longest else shown[: longest - 3] + "..."
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def word(verdict: object) -> str:
    """Return a verdict as a word; a blank where there is none."""
    if not isinstance(verdict, bool | np.bool_):
        return ""
    return "right" if verdict else "wrong"
