"""Figures from run records alone: which are drawn, what they show, and how they say that runs are mini. And tables as LaTeX."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps
from tiny_tables import finished_run, history

from ttsv.figures import transfer as heat
from ttsv.figures.curves import styles
from ttsv.figures.layers import embedding_map
from ttsv.figures.settings import decimal_steps
from ttsv.rendering import Section, escape, latex, markdown
from ttsv.report import write_report

SHARED = {"model": "small.en", "task": "gcd", "scale": "mini"}


def figures(tmp_path: Path) -> dict[str, str]:
    """The report's figures, each as the text of its SVG."""
    write_report(tmp_path, "study")
    folder = tmp_path / "runs" / "study" / "figures"
    assert {path.stem for path in folder.glob("*.png")} == {path.stem for path in folder.glob("*.svg")}
    return {path.stem: path.read_text() for path in folder.glob("*.svg")}


def run(tmp_path: Path, method: str, verdicts: str, seed: int = 15, **more: Any) -> None:
    adapted = {} if method == "none" else {"adapt_task": "gcd"}
    finished_run(tmp_path, method, verdicts, seed, **{**SHARED, **adapted, **more})


def test_a_study_without_vectors_has_no_figure(tmp_path: Path) -> None:
    run(tmp_path, "none", "0011")
    assert figures(tmp_path) == {}
    assert "## Figures" not in write_report(tmp_path, "study").text


def test_curves_show_every_method_and_where_a_collapse_was_noticed(tmp_path: Path) -> None:
    calm, collapsing = history([1.0] * 12), history([0.9] * 12)
    for row in collapsing[6:]:
        row["response_length"] = 2.0
    for update in (0, 12):
        variant = {"at_update": update, "variant": f"at_update={update}"}
        run(tmp_path, "ttsv", "0111" if update else "0011", course=calm, **variant)
        run(tmp_path, "em", "0001" if update else "0010", course=collapsing, **variant)
    drawn = figures(tmp_path)
    assert set(drawn) == {"entropy-small-en-gcd-mini", "accuracy-by-update-small-en-gcd-mini"}
    entropy = drawn["entropy-small-en-gcd-mini"]
    assert "small.en, gcd (mini scale)" in entropy
    assert "collapse noticed" in entropy
    assert "at_update" not in entropy + drawn["accuracy-by-update-small-en-gcd-mini"]


def test_vectors_of_one_half_have_figures_of_their_own_that_say_so(tmp_path: Path) -> None:
    for adapt_on in ("all", "first_half", "second_half"):
        run(tmp_path, "ttsv", "0011", course=history([1.0] * 3), adapt_on=adapt_on, optimised=["p0"])
    drawn = figures(tmp_path)
    names = ("gcd-mini", "gcd-first-half-mini", "gcd-second-half-mini")
    assert set(drawn) == {f"entropy-small-en-{name}" for name in names}
    assert "small.en, gcd, adapted on the first half (mini scale)" in drawn["entropy-small-en-gcd-first-half-mini"]


def test_the_legend_counts_the_runs_of_a_method(tmp_path: Path) -> None:
    for seed in (15, 16):
        run(tmp_path, "ttsv", "0011", seed, course=history([1.0 + seed] * 3))
    run(tmp_path, "em", "0011", course=history([1.0] * 3))
    (picture,) = figures(tmp_path).values()
    assert ">ttsv (2 runs)<" in picture
    assert ">em<" in picture


def test_a_figure_of_runs_that_are_gone_goes_too(tmp_path: Path) -> None:
    for method in ("ttsv", "em"):
        for value in ("1", "20"):
            run(
                tmp_path,
                method,
                "0011" + value,
                variant=f"recipe.optimization.length={value}",
                task=method,
                adapt_task=method,
            )
    assert set(figures(tmp_path)) == {"length-small-en-ttsv-mini", "length-small-en-em-mini"}
    for record in (tmp_path / "runs" / "study").glob("em-*.json"):
        record.unlink()
    assert set(figures(tmp_path)) == {"length-small-en-ttsv-mini"}


@pytest.mark.parametrize(("low", "high"), [(0.7, 1100), (1, 2), (20, 900), (0.5, 2e6), (3, 3.5)])
def test_the_labels_of_a_logarithmic_axis_are_few(low: float, high: float) -> None:
    steps = decimal_steps(low, high)
    assert len(steps) <= 7
    assert all(low <= step <= high for step in steps)
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("setting", "values", "name"),
    [
        ("recipe.optimization.length", ("1", "20"), "length-small-en-gcd-mini"),
        ("recipe.optimization.initialization", ("text", "vocabulary"), "initialization-small-en-gcd-mini"),
        ("ladder", ("00_paper", "14_evaluation"), "ladder-small-en-gcd-mini"),
    ],
)
def test_an_ablation_is_drawn_by_its_setting(tmp_path: Path, setting: str, values: tuple[str, str], name: str) -> None:
    run(tmp_path, "none", "0011")
    for value, verdicts in zip(values, ("0001", "0111"), strict=True):
        run(tmp_path, "ttsv", verdicts, variant=f"{setting}={value}", options=value)
    drawn = figures(tmp_path)
    assert set(drawn) == {name}
    for word in (*values, "ttsv", "none", "mini scale"):
        assert f">{word}" in drawn[name] or word in drawn[name]


def test_drift_and_states_are_drawn_from_the_activations(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for method, size in (("none", 0.0), ("untrained_prefix", 0.3), ("ttsv", 0.6)):
        ids = [f"p{n}" for n in range(6)]
        drift = pd.DataFrame(
            [
                {"problem_id": i, "layer": layer, "relative_shift": size * layer, "cosine": 1.0}
                for i in ids
                for layer in range(4)
            ]
        )
        states = pd.DataFrame({"problem_id": ids, "state": [list(rng.normal(size, 1, 8)) for _ in ids]})
        run(tmp_path, method, "001100", frames={"drift": drift, "states": states})
    drawn = figures(tmp_path)
    assert {"drift-small-en-gcd-mini", "states-small-en-mini"} <= set(drawn)
    assert "untrained_prefix" in drawn["drift-small-en-gcd-mini"]
    assert ">none<" not in drawn["drift-small-en-gcd-mini"]
    assert ">none<" in drawn["states-small-en-mini"]


def test_a_map_without_kinds_has_a_marker_per_group(tmp_path: Path) -> None:
    embedding_map(pd.DataFrame({"x": [0, 1], "y": [0, 1], "group": ["a", "b"]}), tmp_path / "map", "A plane")
    assert "A plane" in (tmp_path / "map.svg").read_text()


def test_figures_of_full_runs_do_not_say_mini(tmp_path: Path) -> None:
    for value in ("1", "20"):
        run(tmp_path, "ttsv", "0011" + value, variant=f"recipe.optimization.length={value}", scale="full")
    (picture,) = figures(tmp_path).values()
    assert "mini" not in picture


def test_the_same_numbers_make_the_same_bytes(tmp_path: Path) -> None:
    for value in ("1", "20"):
        run(tmp_path, "ttsv", "00110" if value == "1" else "01110", variant=f"recipe.optimization.length={value}")
    assert figures(tmp_path) == figures(tmp_path)


@pytest.mark.parametrize("colours", ["PuOr_r", "cividis"])
def test_numbers_are_readable_on_every_colour(colours: str) -> None:
    for place in np.linspace(0, 1, 101):
        channels = np.asarray(colormaps[colours](place)[:3])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        behind = float(linear @ [0.2126, 0.7152, 0.0722])
        ink = 0.0 if heat._ink(colormaps[colours], place) == "black" else 1.0
        contrast = (max(ink, behind) + 0.05) / (min(ink, behind) + 0.05)
        assert contrast >= 4.5


def test_a_method_looks_the_same_in_all_figures_and_no_two_alike() -> None:
    few, more = (styles(pd.Series(names)) for names in (["ttsv", "x"], ["none", "x", "y", "untrained_prefix", "ttsv"]))
    assert few["ttsv"] == more["ttsv"]
    assert len(set(more.values())) == 5
    many = styles(pd.Series([f"step {n}" for n in range(15)]))
    assert len(set(many.values())) == 15


def test_latex_prints_what_the_table_says() -> None:
    assert escape(r"50 % of a_b & c#1 {~^$\}") == (
        r"50 \% of a\_b \& c\#1 \{\textasciitilde{}\textasciicircum{}\$\textbackslash{}\}"
    )
    table = pd.DataFrame(
        {"method": ["untrained_prefix", "ttsv (lr=1e-3 & x)"], "w→r / r→w": ["5 / 1", ""], "gain %": ["+1.0", "-2.0"]}
    )
    text = latex(Section("small_model on gcd: 50 %", table))
    body = text.splitlines()
    assert r"\caption{small\_model on gcd: 50 \%}" in body
    assert r"\begin{tabular}{lrr}" in body
    assert r"method & w$\to$r / r$\to$w & gain \% \\" in body
    assert r"ttsv (lr=1e-3 \& x) &  & -2.0 \\" in body
    assert [line for line in body if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert text.count(r"\begin") == text.count(r"\end") == 3


def test_the_summary_is_kept_as_latex_with_one_table_per_group(tmp_path: Path) -> None:
    run(tmp_path, "none", "0011")
    run(tmp_path, "ttsv", "0111")
    run(tmp_path, "none", "0011", prompt="question_boxed")
    write_report(tmp_path, "study")
    text = (tmp_path / "runs" / "study" / "summary.tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert r"question\_boxed" in text
    assert "booktabs" in text.splitlines()[0]


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    shown = markdown(Section("t", pd.DataFrame({"a|b": ["x"], "note": ["one|two"]})))
    assert r"one\|two" in shown
