"""What is measured of graded samples: accuracy and the shares that explain it."""

from typing import Any

import pandas as pd

from ttsv.records import Flag
from ttsv.stats import maj_at_k

FLAGS: tuple[Flag, ...] = ("ok", "no_answer", "unparsed", "timeout", "error")


MEAN, MAJORITY = "mean", "majority"
"""How several samples of a problem become its score."""


def problem_scores(samples: pd.DataFrame, aggregate: str = MEAN) -> pd.Series:
    """Return the score of each problem, in [0, 1], indexed by problem id in order.

    ``mean``: the share of right samples. ``majority``: whether the most frequent answer is right (:func:`ttsv.stats.maj_at_k`).

    Raises:
        ValueError: for another ``aggregate``.
    """
    if aggregate == MEAN:
        return samples.groupby("problem_id")["correct"].mean().sort_index()
    if aggregate != MAJORITY:
        raise ValueError(f"aggregate={aggregate!r}; expected {MEAN} or {MAJORITY}")
    votes = {
        problem: maj_at_k([a if isinstance(a, str) and a else None for a in of["answer"]], list(of["correct"]))
        for problem, of in samples.groupby("problem_id")
    }
    return pd.Series(votes, dtype=float).sort_index()


def metrics(samples: pd.DataFrame) -> dict[str, Any]:
    """Return accuracy and rates (shares of 1) of a frame with a row per completion, and the counts of the grader's flags.

    ``accuracy`` is the mean over problems of the share of right samples (avg@k with k samples each). ``tokens`` is the mean length of a
    response in tokens, its end token included; ``entropy`` the mean over responses of their mean token entropy, in nats.
    """
    per_problem = samples.groupby("problem_id")["correct"].mean()
    ended = samples["finish_reason"].notna()  # lm-eval does not tell why a row ended
    return {
        "problems": len(per_problem),
        "samples_per_problem": len(samples) / max(len(per_problem), 1),
        "accuracy": float(per_problem.mean()),
        "boxed": float(samples["boxed"].mean()),
        "truncated": float((samples["finish_reason"] == "length").mean()) if ended.any() else float("nan"),
        "repetition": float(samples["repetition"].mean()),
        "tokens": float(samples["tokens"].mean()),
        "tokens_total": int(samples["tokens"].sum()),
        "entropy": float(samples["mean_entropy"].mean()),
        "flags": {flag: int((samples["flag"] == flag).sum()) for flag in FLAGS},
    }
