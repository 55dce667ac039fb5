"""How much of a gain is there before training, what training adds, and what a prompt alone would give: rules on outcomes alone.

**Arms.** The same N problems, scored under: the vector's own prompt without a prefix (``released``: in the paper's setting the released
prompt; *no prefix* in the sentences); other prompts without a prefix; the untrained prefix
(same seed and initialisation); other random prefixes; the trained vector; and held out: each problem under the vector that was optimised
on the other half. *Best prompt* is a score per problem as well: the prompt, the released one among them, that did best on the half that
the problem is not in, so that choosing gives it no advantage (ties: the first, the released one before all others).

**Steps**, each a mean difference over the problems, in points:

=============  ==============================  ==========================================================
step           difference                      what it is
=============  ==============================  ==========================================================
total          trained - released              the whole gain
prompt         best prompt - released          what choosing a prompt gives without a vector
beyond         trained - best prompt           what is left of the gain against that
before         untrained - released            what is there before the first update, same seed
draws          random prefixes - released      the same over the distribution of random prefixes
updates        trained - untrained             what the updates add on the problems they were made on
held_out       held out - untrained            what updates add on problems that they never saw
own_problems   trained - held out              what optimising on all problems, these among them, adds to the other half
=============  ==============================  ==========================================================

The waterfall is total = before + held_out + own_problems (= before + updates); prompt and beyond split the total a second way.

**Rules.** (1) Every range is an interval of :func:`ttsv.stats.difference_interval` at 1 - 0.05 / m for the m steps that the arms allow
(Bonferroni), so that all ranges of a suite are meant to hold together in 95 % of data sets; those of *prompt* and *beyond* speak of the
prompts that were chosen. (2) A direction (gains, loses, adds, costs, above, below) is stated only where the Holm-adjusted p-value of
:func:`ttsv.stats.difference_p` over the m steps is below 0.05 and the range leaves out 0. (3) Everywhere else the sentence says that the
data set cannot tell, and gives the range, and the p-value where only the range leaves out 0. (4) The first sentence names as sources of
a gain only steps shown to be positive, and only where the total is shown to be: *before*; the parts of the updates, *held_out* and
*own_problems*, unless one of them is shown to be negative and *updates* not to be positive; and *updates* where neither part is named.
It never concludes from silence. (5) One seed speaks of that one vector; a statement about the method needs three seeds or more, whose
spread then counts. With fewer than three random prefixes the step *draws* is left out.

How often the rules are right, silent and wrong on data with known truth: ``results/verdict_rules.md`` (``python -m ttsv.coverage``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from ttsv.records import UserError
from ttsv.stats import MIN_SEEDS, difference_interval, difference_p, holm

LEVEL = 0.05
OWN = "released"
"""The name of the vector's own prompt among those that are chosen from."""
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """Scores in [0, 1] of N problems, in one order in all arms.

    ``released`` and each of ``prompts`` (N,); ``untrained``, ``trained`` and ``held_out`` (S, N), S seeds in one order, 1 or at least 3;
    ``draws`` (K, N), K other random prefixes; ``halves`` (N,) tells the two halves apart between which prompts are chosen. Arms that were
    not run stay None or empty. ``samples``: the smallest number of samples behind a score.
    """

    released: Scores
    untrained: Scores
    trained: Scores
    halves: npt.NDArray[np.bool_]
    prompts: Mapping[str, Scores] = field(default_factory=dict)
    draws: Scores | None = None
    held_out: Scores | None = None
    samples: int = 1

    def __post_init__(self) -> None:
        problems, seeds = np.shape(self.released), len(self.trained)
        if len(problems) != 1 or not problems[0]:
            raise UserError(f"arm released has the shape {problems}; expected one score per problem")
        if 1 < seeds < MIN_SEEDS or not seeds:
            raise UserError(
                f"arm trained has {seeds} seeds; expected one, or at least {MIN_SEEDS} so that their spread is known"
            )
        expected: dict[str, tuple[int, ...]] = {
            "released": problems,
            "halves": problems,
            **{f"prompts[{name}]": problems for name in self.prompts},
        }
        expected |= {name: (seeds, *problems) for name in ("untrained", "trained", "held_out")}
        expected |= {"draws": (len(self.draws) if self.draws is not None else 0, *problems)}
        arms = {**vars(self), **{f"prompts[{name}]": scores for name, scores in self.prompts.items()}}
        for name, shape in expected.items():
            if arms[name] is not None and np.shape(arms[name]) != shape:
                raise UserError(
                    f"arm {name} has the shape {np.shape(arms[name])}; expected {shape}: the same problems in all arms"
                )
            if arms[name] is not None and not np.all((np.asarray(arms[name]) >= 0) & (np.asarray(arms[name]) <= 1)):
                raise UserError(
                    f"arm {name} holds scores that are missing or outside 0 to 1; expected shares of right answers"
                )
        if self.prompts and len(set(np.asarray(self.halves).tolist())) < 2:
            raise UserError(
                "halves puts all problems into one half; the best prompt needs two, to be chosen on one and scored on the other"
            )


@dataclass(frozen=True)
class Step:
    """One difference in points, with its simultaneous 95 % range; ``direction`` is 1 or -1 where one is shown, else 0."""

    name: str
    points: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def direction(self) -> int:
        """Return what rule 2 shows."""
        if self.p_holm >= LEVEL or self.low <= 0 <= self.high:
            return 0
        return 1 if self.low > 0 else -1


@dataclass(frozen=True)
class Waterfall:
    """The arms' accuracies in percent, the steps by name in the order of the table above, and the verdict, a sentence per step."""

    arms: Mapping[str, float]
    steps: Mapping[str, Step]
    verdict: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """Return a row per step: points, range, p-values and direction."""
        return pd.DataFrame([{**vars(step), "direction": step.direction} for step in self.steps.values()])


def waterfall(outcomes: Outcomes) -> Waterfall:
    """Return the steps and the verdict by the rules above."""
    best, chosen = best_prompt(outcomes)
    differences = _differences(outcomes, best)
    confidence = 1 - LEVEL / len(differences)
    ranges = {name: difference_interval(d, outcomes.samples, confidence) for name, d in differences.items()}
    p_values = {name: difference_p(d, outcomes.samples) for name, d in differences.items()}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    steps = {
        name: Step(name, 100 * float(d.mean()), 100 * float(low), 100 * float(high), p_values[name], adjusted[name])
        for (name, d), (low, high) in zip(differences.items(), ranges.values(), strict=True)
    }
    arms = {
        "released": outcomes.released,
        "best prompt": best if outcomes.prompts else None,
        "untrained": outcomes.untrained,
        "random prefixes": outcomes.draws,
        "held out": outcomes.held_out,
        "trained": outcomes.trained,
    }
    accuracies = {name: 100 * float(np.mean(scores)) for name, scores in arms.items() if scores is not None}
    return Waterfall(accuracies, steps, _verdict(outcomes, steps, chosen))


def best_prompt(outcomes: Outcomes) -> tuple[Scores, tuple[str, str]]:
    """Return per problem (N,) the score under the prompt that did best on the other half, and the two prompts' names."""
    candidates = {OWN: np.asarray(outcomes.released), **outcomes.prompts}
    second = np.asarray(outcomes.halves, dtype=bool)
    on_first, on_second = (
        max(candidates, key=lambda name: float(candidates[name][half].mean())) if outcomes.prompts else OWN
        for half in (~second, second)
    )
    return np.where(second, candidates[on_first], candidates[on_second]), (on_first, on_second)


def _differences(outcomes: Outcomes, best: Scores) -> dict[str, Scores]:
    """Return the steps that the arms allow as differences (S, N)."""
    released, untrained, trained = outcomes.released, outcomes.untrained, outcomes.trained
    found = {"total": trained - released}
    if outcomes.prompts:
        found |= {"prompt": (best - released)[None], "beyond": trained - best}
    found["before"] = untrained - released
    if outcomes.draws is not None and len(outcomes.draws) >= MIN_SEEDS:
        found["draws"] = outcomes.draws - released
    found["updates"] = trained - untrained
    if outcomes.held_out is not None:
        found |= {"held_out": outcomes.held_out - untrained, "own_problems": trained - outcomes.held_out}
    return found


SENTENCES = {
    "total": (
        "{who} gains {range} points over no prefix.",
        "{who} loses {range} points against no prefix.",
        "whether {who} gains or loses against no prefix",
    ),
    "prompt": (
        "A prompt alone, without a vector, gains {range} points ({chosen}).",
        "The prompt that looked best on one half loses {range} points on the other ({chosen}).",
        "whether a prompt alone gains or loses ({chosen})",
    ),
    "beyond": (
        "{who} stands {range} points above the best prompt.",
        "{who} stands {range} points below the best prompt.",
        "whether {who} stands above or below the best prompt",
    ),
    "before": (
        "The untrained prefix alone gains {range} points.",
        "The untrained prefix alone loses {range} points.",
        "whether the untrained prefix alone gains or loses",
    ),
    "draws": (
        "Random prefixes gain {range} points on average (single draws {draws}).",
        "Random prefixes lose {range} points on average (single draws {draws}).",
        "whether random prefixes gain or lose on average (single draws {draws})",
    ),
    "updates": (
        "The updates add {range} points on the problems they were made on.",
        "The updates cost {range} points on the problems they were made on.",
        "whether the updates add or cost anything on the problems they were made on",
    ),
    "held_out": (
        "On problems that they never saw, the updates add {range} points.",
        "On problems that they never saw, the updates cost {range} points.",
        "whether the updates add or cost anything on problems that they never saw",
    ),
    "own_problems": (
        "Optimising on all problems, these among them, adds {range} points to what carries over from the other half.",
        "Optimising on all problems, these among them, costs {range} points against what carries over from the other half.",
        "whether optimising on all problems, these among them, adds or costs anything against the other half alone",
    ),
}
"""Per step: the sentence for a shown gain, for a shown loss, and what cannot be told where neither is shown."""

SOURCES = {
    "before": "the prefix before its first update",
    "held_out": "updates that carry over to problems they never saw",
    "own_problems": "updates on all problems, those that are scored among them",
    "updates": "the updates",
}
PARTS = ("held_out", "own_problems")
"""What *updates* is the sum of."""


def _verdict(outcomes: Outcomes, steps: Mapping[str, Step], chosen: tuple[str, str]) -> tuple[str, ...]:
    seeds = len(outcomes.trained)
    draws = [] if outcomes.draws is None else [100 * float((d - outcomes.released).mean()) for d in outcomes.draws]
    words = {
        "who": "this vector" if seeds == 1 else f"TTSV, over {seeds} seeds,",
        "chosen": _choice(chosen),
        "draws": f"{min(draws):+.1f} to {max(draws):+.1f}" if draws else "",
    }
    return (_headline(steps), *(_sentence(step, steps["total"], words) for step in steps.values()))


def _choice(chosen: tuple[str, str]) -> str:
    """Return which prompts were chosen, in words."""
    if set(chosen) == {OWN}:
        return "no other prompt did better than the vector's own on either half"
    names = ["the vector's own" if name == OWN else name for name in dict.fromkeys(chosen)]
    return "chosen on the other half: " + " and ".join(names)


def _headline(steps: Mapping[str, Step]) -> str:
    total = steps["total"]
    if total.direction == 0:
        return "This data set cannot tell whether there is a gain."
    if total.direction < 0:
        return f"A loss of {-total.points:.1f} points is shown."
    sources = _sources(steps)
    if sources:
        shown = "; ".join(SOURCES[name] for name in sources)
        return f"Of the gain of {total.points:.1f} points, a part is shown to come from: {shown}."
    return f"A gain of {total.points:.1f} points is shown; this data set cannot tell where it comes from."


def _sources(steps: Mapping[str, Step]) -> list[str]:
    """Return the steps that rule 4 names."""
    directions = {name: step.direction for name, step in steps.items()}
    parts = [name for name in PARTS if directions.get(name, 0) > 0]
    if directions["updates"] <= 0 and any(directions.get(name, 0) < 0 for name in PARTS):
        parts = []
    if directions["updates"] > 0 and not parts:
        parts = ["updates"]
    return ["before", *parts] if directions["before"] > 0 else parts


def _sentence(step: Step, total: Step, words: Mapping[str, str]) -> str:
    gain, loss, unknown = SENTENCES[step.name]
    if step.direction == 0:
        text = f"This data set cannot tell {unknown}: {{range}} points"
        text += (
            "." if step.low <= 0 <= step.high else f", but the exact test leaves 0 possible (Holm p {step.p_holm:.3g})."
        )
        return text.format_map({**words, "range": f"{step.low:+.1f} to {step.high:+.1f}"})
    if step.name == "before" and step.direction > 0 and step.high <= total.points and total.direction > 0:
        gain = f"Of the {total.points:.1f} points, {{range}} are there before the first update."
    low, high = sorted((abs(step.low), abs(step.high)))
    text = (gain if step.direction > 0 else loss).format_map({**words, "range": f"{low:.1f} to {high:.1f}"})
    return text[0].upper() + text[1:]
