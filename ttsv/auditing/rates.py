"""Counts, shares and intervals of an audit: one long frame, from which the page, the figures and the files take their numbers."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pandas as pd

from ttsv.auditing.traits import TRAITS
from ttsv.auditing.verdicts import GRADERS, VERDICTS
from ttsv.stats import wilson


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` of ``n`` completions of a folder, in percent with its 95 % Wilson interval.

    ``measure`` says what was counted (a verdict's name for accuracies, ``share`` for how many have ``value`` of ``group``), among
    completions whose ``group`` has ``value``: for instance accuracy by ``math_verify`` among those with trait ``box`` = ``yes``.
    """

    folder: str
    measure: str
    group: str
    value: str
    count: int
    n: int
    percent: float | None
    low: float | None
    high: float | None


def rate(folder: str, measure: str, group: str, value: str, hits: "pd.Series[bool]") -> Rate:
    """Return the rate of ``hits`` (one per completion)."""
    count, n = int(hits.sum()), len(hits)
    if not n:
        return Rate(folder, measure, group, value, 0, 0, None, None, None)
    low, high = wilson(count / n, n)
    return Rate(folder, measure, group, value, count, n, 100 * count / n, 100 * low, 100 * high)


def rates(folder: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return every rate of a folder's completions, a row each with the fields of ``Rate``."""
    return pd.DataFrame([asdict(found) for found in _rates(folder, frame)])


def _rates(folder: str, frame: pd.DataFrame) -> Iterator[Rate]:
    for verdict in VERDICTS:
        yield rate(folder, verdict, "all", "", frame[verdict])
    for grader in GRADERS:
        yield rate(folder, "agreement with released", "grader", grader.name, frame[grader.name] == frame["released"])
    for trait in TRAITS:
        has = frame[f"trait: {trait.name}"]
        yield rate(folder, "share", trait.name, "yes", has)
        for value, group in (("yes", frame[has]), ("no", frame[~has])):
            for verdict in VERDICTS:
                yield rate(folder, verdict, trait.name, value, group[verdict])
    for column in ("level", "subject"):
        if column not in frame or frame[column].isna().all():
            continue
        for level, group in frame.groupby(column, sort=True):
            yield from _of_group(folder, column, str(level), group)


def _of_group(folder: str, column: str, value: str, group: pd.DataFrame) -> Iterator[Rate]:
    for verdict in VERDICTS:
        yield rate(folder, verdict, column, value, group[verdict])
    has_code = group["trait: Python block"]
    yield rate(folder, "share with Python block", column, value, has_code)
    for name, part in (("with", group[has_code]), ("without", group[~has_code])):
        for verdict in VERDICTS:
            yield rate(folder, f"{verdict}, {name} Python block", column, value, part[verdict])
