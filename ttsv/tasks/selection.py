"""Which problems of a task take part: a seeded subset, and two halves to optimise on and to hold out."""

import hashlib
from collections.abc import Sequence

from ttsv.records import Problem, UserError


def subset(problems: Sequence[Problem], limit: int | None, seed: int) -> list[Problem]:
    """``limit`` problems drawn without regard to their order, returned in it; all of them if there are no more.

    The draw depends on ``seed`` and the ids alone, so it is the same for every arm, and a smaller limit yields a subset
    of a larger one. ``None`` keeps everything. Raises ``UserError`` for a limit below 1.
    """
    if limit is None:
        return list(problems)
    if limit < 1:
        raise UserError(f"limit is {limit}; expected at least 1 problem, or none for all of them")
    chosen = {problem.id for problem in _shuffled(problems, "subset", seed)[:limit]}
    return [problem for problem in problems if problem.id in chosen]


def halves(problems: Sequence[Problem], seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """Ids of two disjoint halves that cover ``problems``; the first is the larger by one where their number is odd.

    Stratified by level, or by subject where no level is known: each stratum is split to within one problem. Depends on
    ``seed``, ids and strata alone, not on the order of the list. Raises ``UserError`` for fewer than two problems.
    """
    if len(problems) < 2:
        raise UserError(f"{len(problems)} problem(s) cannot be split into halves; use at least 2")
    strata: dict[str, list[Problem]] = {}
    for problem in problems:
        strata.setdefault(problem.level or problem.subject or "", []).append(problem)
    # Dealing through the strata end to end keeps the halves equal over all as well as within each stratum.
    dealt = [problem.id for name in sorted(strata) for problem in _shuffled(strata[name], "halves", seed)]
    return frozenset(dealt[0::2]), frozenset(dealt[1::2])


def _shuffled(problems: Sequence[Problem], purpose: str, seed: int) -> list[Problem]:
    def key(problem: Problem) -> tuple[bytes, str]:
        return hashlib.sha256(f"{purpose}|{seed}|{problem.id}".encode()).digest(), problem.id

    return sorted(problems, key=key)
