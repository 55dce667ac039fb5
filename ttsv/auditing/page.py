"""The audit's page: what was read, what was found, what it says and does not say, and the run that would decide."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ttsv.auditing.completion_sections import (
    completion_summary,
    group_section,
    output_section,
    reading_section,
    trait_section,
    verdict_section,
)
from ttsv.auditing.findings import FolderFindings, VectorFindings
from ttsv.auditing.markdown import table
from ttsv.auditing.release_files import COMPLETIONS, VECTOR, ReleaseFolder
from ttsv.auditing.tables import FILES
from ttsv.auditing.vector_section import vector_section, vector_summary

RELEASE_SEED = 15
"""The seed of the released code."""


def page(
    inputs: Sequence[Mapping[str, Any]],
    findings: Sequence[FolderFindings],
    cap: int,
    task_data: bool,
    settled_link: str | None,
) -> str:
    """Return the page as Markdown; figures and files are named as ``ttsv.auditing.figures`` and ``tables`` write them."""
    completions = [(found.folder.name, found.completions) for found in findings if found.completions is not None]
    blocks = [
        "# What the released files show",
        "Made by `python -m ttsv.audit` from the files below alone; no model was run, and no generated code. Anyone can repeat "
        "it: every number on this page is in one of the files listed at its end, and every listed completion has its line.",
        "\n".join(f"- {sentence}" for sentence in _summaries(findings)),
        "## Files read",
        table(
            {"file": f"`{file['file']}`", "bytes": file["bytes"], "SHA-256": f"`{file['sha256']}`"} for file in inputs
        ),
        *_absent(findings),
        *vector_section(findings),
    ]
    if completions:
        blocks += verdict_section(completions, settled_link)
        blocks += trait_section(completions, cap)
        blocks += output_section(completions)
        blocks += reading_section(completions)
        blocks += group_section(completions, task_data)
    blocks += _deciding(findings)
    blocks += [
        "## Files written",
        table({"file": f"[`{name}`]({name})", "holds": what} for name, what in FILES.items()),
    ]
    return "\n\n".join(blocks) + "\n"


def _summaries(findings: Sequence[FolderFindings]) -> list[str]:
    vectors = [vector_summary(found.folder.name, found.vector) for found in findings if found.vector is not None]
    texts = [
        completion_summary(found.folder.name, found.completions) for found in findings if found.completions is not None
    ]
    return vectors + texts


def _absent(findings: Sequence[FolderFindings]) -> list[str]:
    missing = [
        f"`{found.folder.name}` holds no `{name}`"
        for found in findings
        for name, part in ((VECTOR, found.folder.vector), (COMPLETIONS, found.folder.completions))
        if part is None
    ]
    return ["Not audited: " + "; ".join(missing) + "."] if missing else []


def _deciding(findings: Sequence[FolderFindings]) -> list[str]:
    commands = [_command(found.folder, found.vector) for found in findings if found.vector is not None]
    if not commands:
        return []
    return [
        "## What would decide",
        "Whether the movement matters is told by evaluating, on the same problems and without training, the model alone, the untrained "
        "draw that the vector started from, other draws, and the released vector; the page that these commands end in, `controls.md`, has "
        "paired tests between them (GPU). With `recipe=paper`, the first of `SEEDS` is the draw that a matched vector started from:",
        "```\n" + "\n".join(commands) + "\n```",
        "If the draw gains over the model alone and the interval of the difference between the released vector and the draw is narrow "
        "about 0, the gain was there before the first update; if the other draws gain alike, any such prefix does it; if the released "
        "vector alone gains, the small movement is what works. A wide interval decides nothing.",
    ]


def _command(folder: ReleaseFolder, vector: VectorFindings) -> str:
    model, _, task = folder.label.rpartition("_")
    name = re.sub(r"[^a-z0-9]+", "_", (model or folder.label).lower())
    first = int(vector.candidates["seed"].iloc[0]) if vector.matched else RELEASE_SEED
    seeds = " ".join(str(first + step) for step in range(6))
    return (
        f"make audit-gpu MODEL={name} TASK={task if model else 'math500'} "
        f'SCALE=full VECTOR=<release>/{folder.name}/{VECTOR} SEEDS="{seeds}"'
    )
