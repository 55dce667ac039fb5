"""The page's sections on completions: verdicts, what the texts hold, printed results, cuts, levels and subjects."""

from collections.abc import Sequence

import pandas as pd

from ttsv.auditing.findings import CompletionFindings, refuted_outputs
from ttsv.auditing.markdown import code, one, share, table, word
from ttsv.auditing.traits import TRAITS
from ttsv.auditing.verdicts import GRADERS, VERDICTS
from ttsv.stats import wilson

Found = Sequence[tuple[str, CompletionFindings]]
OURS = "math_verify"


def completion_summary(name: str, found: CompletionFindings) -> str:
    """Return the findings on one file of completions in a few sentences."""
    accuracies = "; ".join(f"{verdict} {share(one(found.rates, verdict, 'all', ''))}" for verdict in VERDICTS)
    traits = ", ".join(
        f"{one(found.rates, 'share', trait, 'yes')['count']} {words}"
        for trait, words in (
            ("Python block", "hold a Python block"),
            ("output block", "an output block"),
            ("call-limit sentence", "the call-limit sentence"),
            ("box", "a box"),
            ("truncated (inferred)", "look truncated"),
        )
    )
    return f"`{name}`: accuracy %: {accuracies}. Of {len(found.rows)} completions, {traits}."


def verdict_section(completions: Found, settled_link: str | None) -> list[str]:
    """Return the section on verdicts and every disagreement."""
    blocks = [
        "## Verdicts",
        "`released` is the verdict in the file; `release` is the release's rule in our own writing; `math_verify` is this "
        f"project's grader ({', '.join(f'{grader.name} version {grader.version}' for grader in GRADERS)}). Accuracy in percent "
        "with its 95 % Wilson interval.",
        table(_accuracies(name, found) for name, found in completions),
        "Every completion on which the three are not one (`line` is that of `completions.jsonl`, from 1). *by hand*: the verdict "
        "settled in "
        + (
            f"[`adjudicated_release.jsonl`]({settled_link})"
            if settled_link
            else "`tests/data/adjudicated_release.jsonl`"
        )
        + " with its reason; blank where nobody has settled it.",
    ]
    if any(found.rows["sample"].any() for _, found in completions):
        blocks.append(
            "Some lines hold several completions. They are counted one by one here and below, as if independent, so that intervals are "
            "too narrow."
        )
    for name, found in completions:
        blocks += [f"`{name}`", _disagreements(found) if len(found.disagreements) else "None."]
    return blocks


def _accuracies(name: str, found: CompletionFindings) -> dict[str, str]:
    row = {"completions": f"`{name}`"}
    row |= {verdict: share(one(found.rates, verdict, "all", "")) for verdict in VERDICTS}
    row["acc in metrics.json"] = str(found.metrics.get("acc", ""))
    for grader in GRADERS:
        agreement = one(found.rates, "agreement with released", "grader", grader.name)
        row[f"{grader.name} agrees with released"] = f"{agreement['count']}/{agreement['n']}"
        row[f"{grader.name}: no verdict"] = str(int(found.rows[f"{grader.name} flag"].isin(["timeout", "error"]).sum()))
    return row


def _disagreements(found: CompletionFindings) -> str:
    return table(
        {
            "line": row["line"],
            "idx": row["idx"],
            "gold": code(row["gold"]),
            "released answer": code(row["released answer"]),
            "answer (math_verify)": code(row[f"{OURS} answer"]),
            **{verdict: word(row[verdict]) for verdict in VERDICTS},
            "by hand": word(row["settled"]),
            "why": row["reason"] or f"{OURS}: {row[f'{OURS} why']}",
        }
        for row in found.disagreements.to_dict("records")
    )


def trait_section(completions: Found, cap: int) -> list[str]:
    """Return the section on what the texts hold, with the accuracy given each trait."""
    return [
        "## What the completions hold",
        f"Accuracy by `{OURS}`, in percent with its 95 % Wilson interval. The files hold no token counts, so truncation is "
        f"inferred from the text, for a cap of {cap} tokens; the true number lies between *truncated (inferred)*, unless a text "
        "happens to stop mid-sentence by itself, and *long enough for the cap*, which no truncated completion can miss unless "
        "blanks were cut from its end.",
        table(
            {
                "trait": trait.name,
                "completions": f"`{name}`",
                "share %": share(one(found.rates, "share", trait.name, "yes")),
                "accuracy with": share(one(found.rates, OURS, trait.name, "yes")),
                "accuracy without": share(one(found.rates, OURS, trait.name, "no")),
            }
            for trait in TRAITS
            for name, found in completions
        ),
        "Rules: " + "; ".join(f"*{trait.name}*: {trait.rule}" for trait in TRAITS) + ".",
        "![shares](shares.png)",
        "![accuracy with and without each trait](accuracy_given_trait.png)",
        "**What this says and does not say.** The two columns compare different problems: a model writes code, runs into the cap "
        "or goes on after its answer where the problem leads it there. A difference between them is no estimate of the trait's "
        "effect. How often the texts hold code is a fact about them; whether the prefix brought it needs the same model's completions "
        "without prefix.",
    ]


def output_section(completions: Found) -> list[str]:
    """Return the section on imitated tool output."""
    refuted = [(name, refuted_outputs(found)) for name, found in completions]
    return [
        "## Output blocks: printed or imitated?",
        "The released evaluation runs a completion's code only if the text ends in a code block and holds no box; it then appends "
        "an output block and generates again, up to 4 rounds, and appends the call-limit sentence after the fourth, so that its own "
        "sentence would stand below at least 4 output blocks. An output block in the text may therefore be a program's or the "
        "model's own. Two things can be told from the files. First, how the texts end:",
        table(_endings(name, found) for name, found in completions),
        "Second, whether an output is what the program above it gives. Programs that are nothing but assignments, arithmetic and "
        "`print` are read as arithmetic here (no generated code is executed); all others are left unchecked. *equal up to "
        "rounding*: apart by at most 1e-9 relative, as mathematical libraries may be. *not Python*: the program does not parse, "
        "and the output is something else than an interpreter's report of that.",
        table(_statuses(name, found) for name, found in completions),
        *(
            block
            for name, outputs in refuted
            if len(outputs)
            for block in (
                f"`{name}`: outputs that contradict the arithmetic, and programs that are not Python",
                _refuted(outputs),
            )
        ),
        "**What this says.** A block that contradicts the program above it was not printed by an interpreter that ran that program, and a "
        "call-limit sentence below fewer than 4 output blocks was not appended by that script: the model wrote them. **What it "
        "does not say.** An agreeing block may be a good calculation or a real print, and nothing is known of unchecked ones. A "
        "completion with a contradicting block may still end in the right answer; the last column says whether it did.",
    ]


def _endings(name: str, found: CompletionFindings) -> dict[str, str]:
    rows = found.rows
    limit = rows[rows["trait: call-limit sentence"]]
    unboxed = rows[rows["trait: ends in a code block"] & ~rows["trait: box"]]
    return {
        "completions": f"`{name}`",
        "end in a code block without a box": str(len(unboxed)),
        "with the call-limit sentence": str(len(limit)),
        "lines of these": ", ".join(map(str, limit["line"])) or "-",
        "output blocks in each of these": " or ".join(map(str, sorted(set(limit["output blocks"])))) or "-",
        "right among these": f"{int(limit[OURS].sum())} of {len(limit)}",
        "most output blocks in any": str(rows["output blocks"].max()),
    }


def _statuses(name: str, found: CompletionFindings) -> dict[str, str]:
    counts = found.outputs["status"].value_counts()
    checked = int(counts.reindex(["agrees", "equal up to rounding", "contradicts"], fill_value=0).sum())
    row = {"completions": f"`{name}`", "program with output": str(len(found.outputs)), "checked": str(checked)}
    row |= {status: str(counts.get(status, 0)) for status in ("agrees", "equal up to rounding", "contradicts")}
    if checked:
        low, high = wilson(counts.get("contradicts", 0) / checked, checked)
        row["contradicts, % of checked"] = (
            f"{100 * counts.get('contradicts', 0) / checked:.1f} ({100 * low:.1f} to {100 * high:.1f})"
        )
    else:
        row["contradicts, % of checked"] = ""
    return row | {status: str(counts.get(status, 0)) for status in ("not Python", "not checked")}


def _refuted(outputs: pd.DataFrame) -> str:
    return table(
        {
            "line": row["line"],
            "idx": row["idx"],
            "block": row["block"],
            "status": row["status"],
            "output in the text": code(row["output"]),
            "the program gives": code(row["computed"]),
            "last line of the program": code(row["program"].strip().rpartition("\n")[2]),
            f"answer ({OURS})": word(row[OURS]),
        }
        for row in outputs.to_dict("records")
    )


def reading_section(completions: Found) -> list[str]:
    """Return the section on texts cut short and graded again."""
    return [
        "## The same texts, cut and graded again",
        "How many verdicts hang on what follows the first box, the first output block or the first Python block. A cut is a "
        "reading of the same text; what the model would have written had it been stopped, or without code, the files cannot tell.",
        table(
            _reading(name, found, reading)
            for name, found in completions
            for reading in dict.fromkeys(found.readings["reading"])
        ),
    ]


def _reading(name: str, found: CompletionFindings, reading: str) -> dict[str, str]:
    part = found.readings[found.readings["reading"] == reading]
    row = {"completions": f"`{name}`", "cut": reading, "shortened": f"{len(part)} of {len(found.rows)}"}
    for grader in GRADERS:
        before, after = part[f"{grader.name} before"], part[f"{grader.name} after"]
        total = int(found.rows[grader.name].sum()) - int(before.sum()) + int(after.sum())
        row[f"{grader.name}: right, cut / whole"] = f"{total} / {int(found.rows[grader.name].sum())}"
        row[f"{grader.name}: lost / gained"] = f"{int((before & ~after).sum())} / {int((~before & after).sum())}"
    return row


def group_section(completions: Found, task_data: bool) -> list[str]:
    """Return the section on levels and subjects, as far as they are known."""
    blocks = ["## By level and subject"]
    for name, found in completions:
        for column in ("level", "subject"):
            values = dict.fromkeys(found.rates.loc[found.rates["group"] == column, "value"])
            if values:
                blocks += [f"`{name}`, by {column}", table(_group(found, column, value) for value in values)]
    if not task_data:
        blocks.append("No task data were given (`--data-dir`), so subjects are not known.")
    elif any(found.problems_found is not None for _, found in completions):
        matched = [f"`{name}` {found.problems_found} of {len(found.rows)}" for name, found in completions]
        blocks.append("Questions found in the task data with the same gold answer: " + ", ".join(matched) + ".")
    if any((found.rates["group"] == "level").any() for _, found in completions):
        blocks.append("![accuracy by level](accuracy_by_level.png)")
    return blocks if len(blocks) > 1 else []


def _group(found: CompletionFindings, column: str, value: str) -> dict[str, str]:
    return {
        column: value,
        **{f"accuracy, {verdict}": share(one(found.rates, verdict, column, value)) for verdict in ("released", OURS)},
        "with Python block %": share(one(found.rates, "share with Python block", column, value)),
        f"accuracy with ({OURS})": share(one(found.rates, f"{OURS}, with Python block", column, value)),
        f"accuracy without ({OURS})": share(one(found.rates, f"{OURS}, without Python block", column, value)),
    }
