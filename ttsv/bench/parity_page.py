"""The page of :mod:`ttsv.bench.parity`: shares of identical completions, first differences, near-ties, tokens per second."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

CASE = ["task", "prefix", "temperature"]
PROBABILITY = 1e-4
"""What a cumulative probability may move by for a sampled difference to count as rounding."""


def page(rows: pd.DataFrame, facts: Mapping[str, Any], tolerance: float) -> str:
    """Return the page in Markdown.

    Args:
        rows: a row per case and problem, as :mod:`ttsv.bench.parity` makes them.
        facts: what :func:`ttsv.provenance.collect` says, and ``command``, ``dtype``, ``engine``, ``model``.
        tolerance: the largest gap of two logits that counts as a near-tie.
    """
    machine, packages, vllm = facts["hardware"], facts["packages"], facts["engine"]
    table = pd.DataFrame([_line(case, of_case, tolerance) for case, of_case in rows.groupby(CASE, sort=False)])
    most = rows.loc[rows["first_difference"].isna(), "entropy_difference"].abs().max()
    return f"""# vLLM against the HF engine

    {facts["command"]}

The same prompts, prefixes and random numbers through both engines: {facts["model"]}, {facts["dtype"]},
at most {facts["cap"]} new tokens. vLLM is given prompts as embeddings and draws tokens by the same rule
(`ttsv/engines/vllm_sampling.py`), so completions can differ by floating-point order alone: where two tokens are nearly tied, after
which the texts go their own ways. At temperature 0 a difference is a near-tie if the transformers model's logits of the two tokens, at
the first place where the texts differ, are less than {tolerance:g} apart; at temperature 1 if the random number there is within
{PROBABILITY:g} of those that draw vLLM's token. The mean entropies of identical completions differ by at most {most:.1e} nats.

{table.to_markdown(index=False, disable_numparse=True)}

Seconds are of the wall clock, a case at a time, vLLM's start left out; the load average at the end was {facts["load"]:.1f}, so where that
exceeds the number of threads something else ran beside it.

{machine["cpu"]}, {machine["cores"]} cores, {machine["memory_gib"]} GiB, {machine["threads"]} threads, {machine["device"]};
vLLM {vllm["vllm"]} with torch {vllm["torch"]};
torch {packages["torch"]}, transformers {packages["transformers"]}, Python {facts["python"]}, commit {str(facts["git"]["commit"])[:10]}.
"""


def _line(case: Any, rows: pd.DataFrame, tolerance: float) -> dict[str, str]:
    task, prefix, temperature = case
    different = rows[rows["first_difference"].notna()]
    near = different["gap"] < (tolerance if temperature == 0 else PROBABILITY)
    first = different["first_difference"].astype(int)
    return {
        "task": task,
        "prefix of 20": prefix.replace("_", " "),
        "temperature": f"{temperature:g}",
        "identical": f"{len(rows) - len(different)} of {len(rows)}",
        "first differences at": ", ".join(map(str, sorted(first))) or "-",
        "near-ties": f"{near.sum()} of {len(different)}" if len(different) else "-",
        "largest gap": f"{different['gap'].max():.1e}" if len(different) else "-",
        "tokens/s, HF": f"{rows['tokens_hf'].sum() / rows['seconds_hf'].iloc[0]:.0f}",
        "tokens/s, vLLM": f"{rows['tokens_vllm'].sum() / rows['seconds_vllm'].iloc[0]:.0f}",
    }
