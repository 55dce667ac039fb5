"""The benchmark's page: ratios with their spread, shares of the attainable rate, growth; the history below it is kept as it stands."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ttsv.bench.growth import AXES, BASE, exponents
from ttsv.bench.work import AT_ONCE

HISTORY = "## History of changes"

UPDATE_LINES: dict[str, dict[str, tuple[str, ...]]] = {
    words: {"reference": reference, "ours": ours}
    for words, reference, ours in (
        ("rollout", ("rollout",), ("rollout",)),
        ("loss", ("loss",), ("loss",)),
        ("update", ("rollout", "loss"), ("rollout", "loss")),
        ("rollout, several at once", ("rollout",), (AT_ONCE,)),
        ("update, several at once", ("rollout", "loss"), (AT_ONCE, "loss")),
    )
}
"""The lines of an update's table: which stages they add up, on either side."""


def page(pairs: pd.DataFrame, growth: pd.DataFrame, facts: Mapping[str, Any], earlier: str) -> str:
    """Return the page in Markdown.

    Args:
        pairs: the rows of the pairs' file, possibly none.
        growth: the rows of the growth file, possibly none.
        facts: what :func:`ttsv.provenance.collect` says of code and machine.
        earlier: the page as it stood; from the heading ``HISTORY`` on it is kept.
    """
    pairs, growth = _complete(pairs), _complete(growth)
    parts = ["# Benchmark (`make bench`)", _conditions(pairs if len(pairs) else growth, facts)]
    if len(pairs):
        parts += [_updates(pairs), _evaluations(pairs), _shares(pairs)]
    if len(growth):
        parts += [_growth(growth)]
    kept = earlier[earlier.index(HISTORY) :].strip() if HISTORY in earlier else ""
    return "\n\n".join(part for part in [*parts, kept] if part) + "\n"


def _complete(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows that say which model and card; what was measured before they did so was the embedded model's, on a processor."""
    known = {"model": "smollm2_135m", "card": ""}
    rows = rows.assign(**{name: rows[name].fillna(value) if name in rows else value for name, value in known.items()})
    if rows["card"].nunique() > 1:
        rows["model"] = rows["model"] + " on " + rows["card"].replace("", "the processor")
    return rows


def _conditions(rows: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    machine, packages = facts["hardware"], facts["packages"]
    commands = "\n".join(f"    {command}" for command in dict.fromkeys(rows["command"]))
    commits = ", ".join(dict.fromkeys(rows["commit"]))
    threads, dtype = rows["threads"].iloc[0], rows["dtype"].iloc[0].removeprefix("torch.")
    cards = [card for card in dict.fromkeys(rows["card"]) if card]
    hardware = "; ".join([*cards, machine["cpu"]])
    memory = "the peak of PyTorch's allocator" if cards else "the peak"
    load = f""" The machine's load average
while measuring was {rows["load"].min():.1f} to {rows["load"].max():.1f}; where it exceeds {threads}, something else ran beside it, and the
processor's time says more than the wall clock's."""
    return f"""A plain loop in the released form (`ttsv/bench/reference.py`) against this project's own parts, on the same model,
prompts and, for the loss, the same responses. Both sides run `recipe=paper`; responses have the same length by force. A process
per side and repetition, in alternation. Times are of the wall clock and, beside it, of the processor (user and system, all
threads); memory is {memory} less what is resident after loading the model. Ratios are reference / ours: the median
over pairs, with the lowest and the highest in brackets.

{commands}

{hardware}, {machine["cores"]} cores, {machine["memory_gib"]} GiB; {threads} threads a process, {dtype}; torch {packages["torch"]},
transformers {packages["transformers"]}, Python {facts["python"]}, commit {commits}.{load if "" in set(rows["card"]) else ""}"""


def _updates(rows: pd.DataFrame) -> str:
    stages = rows[rows["stage"].isin(["rollout", "loss", AT_ONCE])]
    if stages.empty:
        return ""
    lines, note = [], ""
    for (model, size, response), of_size in stages.groupby(["model", "rows", "response"]):
        for words, of_side in UPDATE_LINES.items():
            source = _added_up(of_size, of_side)
            if set(source["side"]) == set(of_side):
                sizes = {"model": model, "rows x response": f"{size} x {response}"}
                lines.append({**sizes, "stage": words, **_compared(source)})
    if AT_ONCE in set(stages["stage"]):
        updates = int(stages.loc[stages["stage"] == AT_ONCE, "at_once"].iloc[0])
        note = (
            f"\n\nAt once: the rollouts of {updates} updates on the same prompts, drawn side by side "
            f"(`recipe.optimization.rollout_updates={updates}`), so those of the last are {updates - 1} updates stale. Times are those "
            "of one update, the memory is that of all. The released form draws each update's by itself, as in the lines above."
        )
    return f"## An update\n\n{pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)}{note}"


def _added_up(rows: pd.DataFrame, of_side: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """Return a row per side and pair that has all of the side's stages: their times added up, and the greatest memory."""
    parts = []
    for side, stages in of_side.items():
        chosen = rows[(rows["side"] == side) & rows["stage"].isin(stages)]
        whole = chosen.groupby(["pair", "side"], as_index=False).agg(
            seconds=("seconds", "sum"),
            cpu_seconds=("cpu_seconds", "sum"),
            memory=("memory", "max"),
            tokens=("tokens", "first"),
            stages=("stage", "nunique"),
        )
        parts.append(whole[whole["stages"] == len(stages)])
    return pd.concat(parts)


def _compared(source: pd.DataFrame) -> dict[str, str]:
    """Return the medians of both sides and the ratios of the pairs that have both."""
    cells: dict[str, str] = {}
    for quantity, words, unit in (
        ("seconds", "s", 1.0),
        ("cpu_seconds", "processor s", 1.0),
        ("memory", "GiB", 2.0**30),
    ):
        wide = source.pivot_table(index="pair", columns="side", values=quantity).dropna()
        ratio = wide["reference"] / wide["ours"]
        cells[f"{words}, reference"] = f"{wide['reference'].median() / unit:.2f}"
        cells[f"{words}, ours"] = f"{wide['ours'].median() / unit:.2f}"
        cells[f"ratio of {words}"] = f"**{ratio.median():.2f}** [{ratio.min():.2f}, {ratio.max():.2f}]"
    if source["tokens"].notna().all():
        for side in ("reference", "ours"):
            of_side = source[source["side"] == side]
            cells[f"tokens/s, {side}"] = f"{(of_side['tokens'] / of_side['seconds']).median():.1f}"
    cells["pairs"] = str(len(wide))
    return cells


def _evaluations(rows: pd.DataFrame) -> str:
    found = rows[rows["stage"].str.startswith("evaluation")]
    if found.empty:
        return ""
    lines = []
    ours = found.loc[found["side"] == "ours", ["model", "stage"]].drop_duplicates()
    for model, stage in ours.sort_values(["model", "stage"], ascending=[True, False]).itertuples(index=False):
        of_model = found[found["model"] == model]
        matched = of_model[(of_model["side"] == "reference") | (of_model["stage"] == stage)].copy()
        per_hundred = 100 / matched["problems"]
        matched["seconds"], matched["cpu_seconds"] = (
            matched["seconds"] * per_hundred,
            matched["cpu_seconds"] * per_hundred,
        )
        rules = stage.removeprefix("evaluation ")
        same = {"model": model, "rules of our side": f"recipe={rules}", "same texts": _same(matched)}
        lines.append({**same, **_compared(matched)})
    first = found.iloc[0]
    return (
        f"## Evaluation\n\nGreedy, {first['problems']} problems, at most {first['cap']} new tokens, batches of {first['batch']} in the "
        f"released form; times per 100 problems. Under `recipe=corrected` each row stops by itself and its text is cut there, so "
        f"texts may differ by rule; under `recipe=paper` they can differ at near-ties of floating-point order alone.\n\n"
        f"{pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)}"
    )


def _same(matched: pd.DataFrame) -> str:
    texts = {side: of_side["digests"].iloc[0].split() for side, of_side in matched.groupby("side")}
    same = [a == b for a, b in zip(texts["reference"], texts["ours"], strict=True)]
    return f"{sum(same)} of {len(same)}"


def _shares(rows: pd.DataFrame) -> str:
    found = rows[rows["attainable"].notna()] if "attainable" in rows else rows.iloc[:0]
    if found.empty:
        return ""
    keys = ["model", "rows", "response", "stage"]
    least = found.groupby(keys)["attainable"].transform("min")
    spent = found["seconds"].where(found["card"] != "", found["cpu_seconds"] / found["threads"])
    shares = (least / spent).groupby([found[key] for key in [*keys, "side"]])
    table = shares.median().unstack().map(lambda share: f"{share:.0%}", na_action="ignore").fillna("").reset_index()
    rates = found.groupby("card")[["gflops", "gbytes"]].max()
    reached = "; ".join(
        f"{card or 'the processor'} {gflops:,.0f} GFLOP/s and {gbytes:,.0f} GB/s"
        for card, gflops, gbytes in rates.itertuples()
    )
    return f"""## Share of the attainable rate

Matrix products and reading of memory reach, in this order: {reached} (the best of the processes, each measured
for half a second before its model was loaded). The attainable time of a stage is the arithmetic, or the reading of weights, that cannot
be avoided (`ttsv/bench/cost.py`: no padding, logits where they count, no attention, no sampling) at those rates; the share is
attainable / measured, by the wall clock on a card, else by the processor's time over the number of threads, so that other work beside it
does not count.

{table.to_markdown(index=False, disable_numparse=True)}"""


def _growth(rows: pd.DataFrame) -> str:
    fits = exponents(rows)
    fits["cell"] = [f"{e:.2f} ± {d:.2f}" for e, d in zip(fits["exponent"], fits["error"], strict=True)]
    fits = fits[fits["quantity"] != "seconds"].replace({"quantity": {"cpu_seconds": "processor time"}})
    fits["size"] = fits["size"].map({name: words for name, (words, _) in AXES.items()})
    table = fits.pivot_table(
        index=["quantity", "stage", "side"], columns="size", values="cell", aggfunc="first", sort=False
    )
    base = ", ".join(f"{AXES[name][0]} {value}" for name, value in BASE.items())
    return f"""## Growth

Exponents b of y = a x^b, least squares in logarithms with standard error, one size at a time from the base ({base}); one measurement
a point.

![growth](benchmark_growth.png)

{table.reset_index().to_markdown(index=False, disable_numparse=True)}"""
