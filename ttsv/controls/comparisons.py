"""What the arms of a suite show against one another: accuracies, differences with tests, folds, and votes at the vector's token budget."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ttsv.controls.arms import DRAWS, HELD_OUT, RELEASED, TRAINED, UNTRAINED, WITHIN, Suite
from ttsv.metrics import MAJORITY, MEAN, metrics, problem_scores
from ttsv.stats import MIN_SEEDS, accuracy_interval, difference_interval, difference_p, holm
from ttsv.study import Cell
from ttsv.tables import accuracy_of
from ttsv.waterfall import Outcomes, Scores

REFERENCES = (RELEASED, UNTRAINED, TRAINED)


def outcomes(suite: Suite) -> Outcomes:
    """Return the suite's arms as :class:`ttsv.waterfall.Outcomes`, problems in the order of their ids."""
    held_out = suite.arms.get(HELD_OUT)
    draws = suite.arms.get(DRAWS)
    arms = [cell for cells in suite.arms.values() for cell in cells]
    return Outcomes(
        released=scores([suite.released])[0],
        untrained=scores(suite.arms[UNTRAINED]),
        trained=scores(suite.arms[TRAINED]),
        halves=suite.second_half.to_numpy(dtype=bool),
        # Where all problems lie in one half, nothing can be chosen on the other.
        prompts={name: scores([cell])[0] for name, cell in suite.prompts.items()} if suite.second_half.any() else {},
        draws=scores(draws) if draws else None,
        held_out=scores(held_out) if held_out else None,
        samples=min(cell.samples_per_problem for cell in arms),
    )


def scores(cells: Sequence[Cell]) -> Scores:
    """Return the scores of runs (S, N), problems in the order of their ids."""
    return np.array([cell.scores("all").to_numpy(dtype=float) for cell in cells])


def arms_frame(suite: Suite) -> pd.DataFrame:
    """Return a row per arm and other method: accuracy with its 95 % interval, and rates, all in percent; ``tokens`` per response."""
    rows = []
    for name, cells in {**suite.arms, **suite.others}.items():
        accuracy, low, high = accuracy_of(cells)
        each = [metrics(cell.samples) for cell in cells]
        row = {
            "arm": name,
            "seeds": len(cells),
            "n": each[0]["problems"],
            "accuracy": accuracy,
            "low": low,
            "high": high,
        }
        row |= {rate: 100 * float(np.mean([m[rate] for m in each])) for rate in ("boxed", "truncated", "repetition")}
        row |= {what: float(np.mean([m[what] for m in each])) for what in ("tokens", "entropy")}
        row["spent"] = float(np.mean([cell.tokens_per_problem for cell in cells]))
        rows.append(row)
    return pd.DataFrame(rows)


def draws_frame(suite: Suite) -> pd.DataFrame:
    """Return a row per random prefix, the untrained ones among them: accuracy (percent) and difference to no prefix (points)."""
    cells = [(arm, cell) for arm in (UNTRAINED, DRAWS) for cell in suite.arms.get(arm, [])]
    rows = []
    for arm, cell in cells:
        draw = cell.setting("method.draw") if cell.method == "random_prefix" else None
        accuracy, low, high = accuracy_of([cell])
        difference = accuracy - accuracy_of([suite.released])[0]
        what = f"draw {draw} of seed {cell.seed}" if draw is not None else f"seed {cell.seed}"
        rows.append(
            {"arm": arm, "prefix": what, "accuracy": accuracy, "low": low, "high": high, "difference": difference}
        )
    return pd.DataFrame(rows)


def against(suite: Suite) -> pd.DataFrame:
    """Return every other method against the three references: points, 95 % interval, exact p, and p adjusted over the frame (Holm)."""
    rows = []
    for name, cells in suite.others.items():
        for reference in REFERENCES:
            rows.append({"arm": name, "reference": reference, **tested(cells, suite.arms[reference])})
    frame = pd.DataFrame(rows)
    if len(frame):
        known = frame["p"].notna()
        frame.loc[known, "p_holm"] = holm(list(frame.loc[known, "p"]))
    return frame


def paired(after: Sequence[Cell], before: Sequence[Cell]) -> Scores:
    """Return the differences (S, N) of runs to those of the same seed, or to the first run where that seed was not run."""
    by_seed = {cell.seed: cell for cell in before}
    return scores(after) - scores([by_seed.get(cell.seed, before[0]) for cell in after])


def tested(after: Sequence[Cell], before: Sequence[Cell]) -> dict[str, Any]:
    """Return ``points``, and from one or at least three seeds their interval ``low``, ``high`` and ``p``."""
    differences = paired(after, before)
    samples = min(cell.samples_per_problem for cell in (*after, *before))
    return {"seeds": len(after), **interval_of(differences, samples)}


def interval_of(differences: Scores, samples: int = 1) -> dict[str, Any]:
    """Return the mean of differences (S, N) in points with its 95 % interval and p; two seeds have neither."""
    found: dict[str, Any] = {"points": 100 * float(differences.mean()), "low": None, "high": None, "p": None}
    if len(differences) == 1 or len(differences) >= MIN_SEEDS:
        low, high = difference_interval(differences, samples)
        found |= {"low": 100 * float(low), "high": 100 * float(high), "p": difference_p(differences, samples)}
    return found


def folds_frame(suite: Suite) -> pd.DataFrame:
    """Return accuracies in percent by half, and by level or subject where known, of what never saw, partly saw and saw the problems.

    A row per group of problems: no prefix, untrained, held out (inductive: optimised on the other half), within (transductive on its half
    alone) and trained (transductive on all), then within - held out in points with interval and p. Empty without folds.
    """
    if not suite.folds:
        return pd.DataFrame()
    shown = (RELEASED, UNTRAINED, HELD_OUT, WITHIN, TRAINED)
    matrices = {name: scores(suite.arms[name]) for name in shown}
    rows = []
    for group, inside in _groups(suite):
        of_group = {name: 100 * float(matrix[:, inside].mean()) for name, matrix in matrices.items()}
        difference = (matrices[WITHIN] - matrices[HELD_OUT])[:, inside]
        rows.append({"problems": group, "n": int(inside.sum()), **of_group, **interval_of(difference)})
    return pd.DataFrame(rows)


def _groups(suite: Suite) -> list[tuple[str, Any]]:
    second = suite.second_half.to_numpy(dtype=bool)
    found = [("all", np.ones_like(second)), ("first half", ~second), ("second half", second)]
    rows = suite.released.samples.drop_duplicates("problem_id").sort_values("problem_id")
    for column in ("level", "subject"):
        values: list[Any] = list(rows[column]) if column in rows else []
        for value in sorted({v for v in values if v}):
            found.append((f"{column} {value}", np.array([v == value for v in values])))
    return found


def voting_frame(suite: Suite) -> pd.DataFrame:
    """Return what the first k samples of the model alone give, for each k: mean and majority accuracy in percent, and tokens per problem.

    ``matched`` marks the largest k whose tokens do not exceed what the trained vector spent per problem (rollouts, loss and evaluated
    responses); where k samples all fit, the last is marked, and ``of_trained`` says how far below the budget it stays.
    """
    budget = float(np.mean([cell.tokens_per_problem for cell in suite.arms[TRAINED]]))
    frames = [_votes(cell, budget) for cell in suite.sampled]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _votes(cell: Cell, budget: float) -> pd.DataFrame:
    rows = []
    problems = cell.samples["problem_id"].nunique()
    for k in range(1, int(cell.samples["sample"].max()) + 2):
        first = cell.samples[cell.samples["sample"] < k]
        row: dict[str, Any] = {
            "temperature": cell.setting("recipe.evaluation.decoding.sampling.temperature"),
            "seed": cell.seed,
        }
        row |= {"samples": k, "tokens": float(first["tokens"].sum()) / problems}
        for name in (MEAN, MAJORITY):
            of_problem = problem_scores(first, name)
            low, high = accuracy_interval(of_problem, k if name == MEAN else 1)
            row |= {
                name: 100 * float(of_problem.mean()),
                f"{name}_low": 100 * float(low),
                f"{name}_high": 100 * float(high),
            }
        rows.append({**row, "of_trained": row["tokens"] / budget if budget else None})
    frame = pd.DataFrame(rows)
    fitting = frame.index[frame["tokens"] <= budget]
    return frame.assign(matched=frame.index == (fitting[-1] if len(fitting) else -1))
