"""The page's section on vectors: what they started from and how far they moved."""

from collections.abc import Sequence

from ttsv.auditing.findings import FolderFindings, VectorFindings
from ttsv.auditing.markdown import table


def vector_summary(name: str, vector: VectorFindings) -> str:
    """Return the finding on one vector in a sentence."""
    null = vector.null()
    others = f"the {len(null)} other candidates correlate by {null.min():+.4f} to {null.max():+.4f}"
    if not vector.matched:
        best = vector.candidates.iloc[0]
        return f"`{name}`: no candidate is told from chance; the highest is {best['correlation']:+.4f} ({vector.best}), {others}."
    return (
        f"`{name}`: the vector correlates by {vector.summary['correlation']:.4f} with the untrained draw {vector.best}; "
        f"{others}. Its relative drift from that draw is {100 * vector.summary['relative_drift']:.1f} %."
    )


def vector_section(findings: Sequence[FolderFindings]) -> list[str]:
    """Return the section's blocks; none where no folder holds a vector."""
    vectors = [(found.folder.name, found.vector) for found in findings if found.vector is not None]
    if not vectors:
        return []
    return [
        "## Vectors against untrained initialisations",
        "Each vector V (L x d) is compared with what a program could have started from: "
        f"{vectors[0][1].candidates['order'].nunique()} orders of drawing numbers, each under "
        f"{vectors[0][1].candidates['seed'].nunique()} seeds, 0 to 50, drawn by PyTorch's and NumPy's CPU generators. Draws on a "
        "GPU come from another generator, and rows made from a model's own embeddings need its weights: neither is among the "
        "candidates. Correlation does not depend on scale or mean, so a scaled draw would be found as well. Independent entries "
        "correlate with a standard deviation of 1/sqrt(L d).",
        table([_whole(name, vector) for name, vector in vectors]),
        "*correlation*: Pearson, over all entries. *relative drift*: norm of V minus the draw, over the norm of the draw. *row "
        "moved*: the same row by row. *alignment*: mean cosine between the movements of different rows; of independent directions "
        "it would be 0, give or take the number behind it (one standard deviation).",
        "![released entries against the draw](entries.png)",
        "![correlations with all candidates](null_correlations.png)",
        "![movement of each row](row_movement.png)",
        "Every order, the best seed of each:",
        *(block for name, vector in vectors for block in (f"`{name}`", _orders(vector))),
        _meaning(vectors),
    ]


def _whole(name: str, vector: VectorFindings) -> dict[str, str]:
    null, rows, whole = vector.null(), vector.rows, vector.summary
    return {
        "vector": f"`{name}`",
        "L x d": f"{whole['virtual_tokens']:.0f} x {whole['width']:.0f}",
        "closest draw": vector.best + ("" if vector.matched else " (not told from chance)"),
        "correlation": f"{whole['correlation']:.4f}",
        "rows' correlation": f"{rows['correlation'].min():.4f} to {rows['correlation'].max():.4f}",
        "other candidates": f"{null.min():+.4f} to {null.max():+.4f} (n = {len(null)}, sd {null.std():.4f})",
        "relative drift %": f"{100 * whole['relative_drift']:.2f}",
        "row moved %": f"{100 * rows['relative_movement'].min():.2f} to {100 * rows['relative_movement'].max():.2f}",
        "row norm": f"{rows['norm'].min():.2f} to {rows['norm'].max():.2f}",
        "draw's row norm": f"{rows['initial_norm'].min():.2f} to {rows['initial_norm'].max():.2f}",
        "entry moved, RMS": f"{whole['rms_movement']:.4f}",
        "entry moved, largest": f"{whole['largest_movement']:.4f}",
        "alignment": f"{whole['movement_alignment']:.3f} (±{whole['movement_alignment_null_sd']:.4f})",
    }


def _orders(vector: VectorFindings) -> str:
    best = vector.candidates.drop_duplicates("order")
    return table(
        {
            "order of drawing": row["order"],
            "best seed": row["seed"],
            "correlation": f"{row['correlation']:+.4f}",
            "relative drift %": f"{100 * row['relative_drift']:.1f}",
            "the best draw by another name": "yes" if row["same_draw"] else "",
        }
        for row in best.to_dict("records")
    )


def _meaning(vectors: Sequence[tuple[str, VectorFindings]]) -> str:
    lines = ["**What this says.**"]
    if any(vector.matched for _, vector in vectors):
        lines += [
            "A vector that matches a draw so far beyond chance started from it: seed and order of drawing are known. The "
            "optimisation moved it by the stated drift and no more, in this metric. Where the alignment lies many standard "
            "deviations above 0, the movement has directions that rows share; it is not noise added to each row by itself."
        ]
    if not all(vector.matched for _, vector in vectors):
        lines += [
            "A vector without a match was not started from one of these candidates, or was moved so far that no trace is left."
        ]
    lines += [
        "**What it does not say.** A small movement may have a large effect on a model's answers, or none: distance in the "
        "embedding space is not effect. How much of the reported gain the untrained draw has by itself can only be told with the "
        "model."
    ]
    return " ".join(lines)
