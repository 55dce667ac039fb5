"""How often the verdict rules of :mod:`ttsv.waterfall` are right, silent and wrong, on data sets whose truth is known."""

import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttsv.waterfall import Outcomes, Waterfall, best_prompt, waterfall

SIZES = (64, 198, 500)
EFFECTS = (0.02, 0.05, 0.1, 0.2)
BASELINE, SPREAD = 0.4, 1.0
"""Each problem's chance of being solved is Beta with this mean and a + b; two runs of no effect then disagree on 24 % of the problems."""
DRAWS = 5

Simulation = Callable[[np.random.Generator, int], "Row"]


@dataclass(frozen=True)
class Truth:
    """The accuracies of the arms above the released baseline, in units of the effect, and the directions that name the cause."""

    words: str
    prompt: float
    untrained: float
    held_out: float
    trained: float
    cause: Mapping[str, int]


TRUTHS = {
    "prefix": Truth("all of the gain is there before the first update", 0, 1, 1, 1, {"total": 1, "before": 1}),
    "updates": Truth("all comes from updates, and carries over", 0, 0, 1, 1, {"total": 1, "held_out": 1}),
    "own problems": Truth(
        "all comes from optimising on the problems that are scored", 0, 0, 0, 1, {"total": 1, "own_problems": 1}
    ),
    "format": Truth("updates gain what another prompt gains as well", 1, 0, 1, 1, {"total": 1, "prompt": 1}),
    "halves": Truth(
        "half before the first update, half by updates", 0, 0.5, 1, 1, {"total": 1, "before": 1, "held_out": 1}
    ),
    "repair": Truth("the prefix harms, updates repair it, no gain", 0, -1, 0, 0, {"before": -1, "held_out": 1}),
}
NOTHING = Truth("no arm differs", 0, 0, 0, 0, {})


@dataclass(frozen=True)
class Row:
    """Shares of data sets (1 is all): ``right``, ``silent`` and ``wrong`` sum to 1; ``missed``: some range left out the truth.

    ``sd``: the standard deviation of the true effects of vectors (a share of 1).
    """

    truth: str
    problems: int
    seeds: int
    sd: float
    effect: float
    right: float
    silent: float
    wrong: float
    missed: float


def simulate(name: str, truth: Truth, problems: int, effect: float, seeds: int = 1, sd: float = 0.0) -> Simulation:
    """Return the simulation of a truth."""

    def run(rng: np.random.Generator, datasets: int) -> Row:
        # statsmodels collects garbage at every call of Holm's procedure; frozen objects are not looked through.
        gc.freeze()
        outcomes = (_outcomes(rng, truth, problems, effect, seeds, sd) for _ in range(datasets))
        judged = [_judge(waterfall(drawn), _true_steps(truth, effect, drawn), truth.cause) for drawn in outcomes]
        verdicts, missed = zip(*judged, strict=True)
        shares = {word: verdicts.count(word) / datasets for word in ("right", "silent", "wrong")}
        return Row(name, problems, seeds, sd, effect, **shares, missed=sum(missed) / datasets)

    return run


def simulations() -> Iterator[Simulation]:
    """Yield what the page reports."""
    for problems in SIZES:
        yield simulate("nothing", NOTHING, problems, 0.0)
        for name, truth in TRUTHS.items():
            yield from (simulate(name, truth, problems, effect) for effect in EFFECTS)
    yield from (simulate(name, TRUTHS[name], 198, 0.1, seeds=3) for name in TRUTHS)
    yield simulate("nothing", NOTHING, 198, 0.0, seeds=3)
    for problems in SIZES:
        yield from (simulate("nothing", NOTHING, problems, 0.0, seeds, sd) for seeds in (3, 5) for sd in (0.03, 0.08))


def _outcomes(
    rng: np.random.Generator, truth: Truth, problems: int, effect: float, seeds: int, sd: float = 0.0
) -> Outcomes:
    chances = rng.beta(BASELINE * SPREAD, (1 - BASELINE) * SPREAD, size=problems)

    def arm(gain: float, *runs: int) -> npt.NDArray[np.float64]:
        """Scores of an arm whose accuracy is higher by ``gain``: a share of each problem's wrong answers turns right, or the reverse.

        Each of several ``runs`` has a gain of its own, with standard deviation ``sd`` around it.
        """
        gains = gain * effect + (sd * rng.standard_normal((*runs, 1)) if runs and sd else 0.0)
        room = np.where(gains > 0, (1 - chances) / (1 - BASELINE), chances / BASELINE)
        return (rng.random((*runs, problems)) < chances + gains * room).astype(float)

    return Outcomes(
        released=arm(0),
        untrained=arm(truth.untrained, seeds),
        trained=arm(truth.trained, seeds),
        halves=np.arange(problems) % 2 == 1,
        prompts={"other": arm(0), "better": arm(truth.prompt)},
        draws=arm(truth.untrained, DRAWS),
        held_out=arm(truth.held_out, seeds),
    )


def _true_steps(truth: Truth, effect: float, drawn: Outcomes) -> dict[str, float]:
    """Return the true steps in points; those of the best prompt under the prompts that were chosen in this data set."""
    chosen = best_prompt(drawn)[1]
    prompt = truth.prompt * chosen.count("better") / 2
    steps = {
        "total": truth.trained,
        "prompt": prompt,
        "beyond": truth.trained - prompt,
        "before": truth.untrained,
        "draws": truth.untrained,
        "updates": truth.trained - truth.untrained,
        "held_out": truth.held_out - truth.untrained,
        "own_problems": truth.trained - truth.held_out,
    }
    return {name: 100 * effect * step for name, step in steps.items()}


def _judge(found: Waterfall, true: Mapping[str, float], cause: Mapping[str, int]) -> tuple[str, bool]:
    """Return right, silent or wrong, and whether some range left out the truth."""
    missed = any(not step.low <= true[name] <= step.high for name, step in found.steps.items())
    if any(step.direction not in (0, np.sign(true[name])) for name, step in found.steps.items()):
        return "wrong", missed
    return "right" if all(found.steps[name].direction == sign for name, sign in cause.items()) else "silent", missed
