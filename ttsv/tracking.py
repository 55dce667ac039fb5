"""The W&B mirror: finished runs and studies, shown on Weights & Biases from their files alone.

Whatever is mirrored is on disk before, so a failure loses nothing and :mod:`ttsv.upload` repairs it. What leaves the machine is the run's
config, history, metrics, graded samples and provenance, and the study's tables and figures. wandb's own collection (code, git, console,
command line, host, installed packages, system load) is switched off: it would tell of the machine, and of the upload, not of the run.
"""

import json
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd

from ttsv.records import UserError
from ttsv.store import digest
from ttsv.study import Group, read_cell, read_study
from ttsv.tables import BASELINES, comparison

log = logging.getLogger(__name__)

MAX_ROWS = 10_000
"""The most rows of a table that wandb logs; it would cut a longer one without a word."""

_TAGS = ("model", "task", "prompt", "recipe", "scale", "grader")
_LONGEST_TAG = 64

_PRIVATE: dict[str, Any] = {
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "host": "",
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""What wandb would collect by itself, switched off."""


class Mirror(Protocol):
    """Shows finished work elsewhere. Neither method raises; each tells whether it succeeded."""

    def cell(self, record_file: Path) -> bool:
        """Mirror one run, given its record ``<results>/runs/<study>/<cell>.json``."""
        ...

    def study(self, folder: Path) -> bool:
        """Mirror a study's tables and figures, given its folder ``<results>/runs/<study>``."""
        ...


@dataclass(frozen=True)
class NoMirror:
    """Shows nothing anywhere."""

    def cell(self, record_file: Path) -> bool:
        """Do nothing."""
        return True

    def study(self, folder: Path) -> bool:
        """Do nothing."""
        return True


@dataclass(frozen=True)
class WandbMirror:
    """Mirrors runs and studies to Weights & Biases, which is imported only then.

    ``dir`` is the folder that wandb makes its folder ``wandb`` in. ``timeout`` (seconds) holds for an answer and again for the end of an
    upload.
    """

    mode: Literal["online", "offline"] = "online"
    project: str = "ttsv"
    entity: str | None = None
    dir: str = "results"
    sample_rows: int = 1000
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.sample_rows <= MAX_ROWS:
            raise UserError(f"tracking.sample_rows={self.sample_rows} is out of range; expected 0 to {MAX_ROWS}")
        if self.timeout <= 0:
            raise UserError(f"tracking.timeout={self.timeout} is out of range; expected a positive number of seconds")

    def cell(self, record_file: Path) -> bool:
        """Mirror one run: config, history, metrics, graded samples, provenance."""
        return self._guarded(lambda: self._cell(record_file), f"run {record_file.name}", record_file.parent)

    def study(self, folder: Path) -> bool:
        """Mirror a study as one run of job type ``summary``: comparison, gains, and every CSV and PNG of its folder."""
        return self._guarded(lambda: self._study(folder), f"summary of {folder.name}", folder)

    def _guarded(self, mirror: Callable[[], None], what: str, folder: Path) -> bool:
        """Turn any failure into a warning: the one place where a failing W&B meets a run."""
        try:
            mirror()
        except Exception as error:
            log.warning(
                "the %s is not mirrored to W&B (%s: %s). Nothing on disk is touched by that; to upload it later: %s",
                what,
                type(error).__name__,
                error,
                self._upload_command(folder),
            )
            log.debug("mirroring failed", exc_info=True)
            return False
        return True

    def _upload_command(self, folder: Path) -> str:
        owner = [f"--entity={self.entity}"] if self.entity else []
        options = [f"--mode={self.mode}", f"--project={self.project}", *owner, f"--dir={self.dir}"]
        return shlex.join(["python", "-m", "ttsv.upload", str(folder), *options])

    def _cell(self, record_file: Path) -> None:
        study, results = record_file.parent.name, record_file.parents[2]
        cell = read_cell(record_file, results)
        record = json.loads(record_file.read_text())
        stages = {name: results / "stages" / path for name, path in record["stages"].items()}
        facts = record["facts"]
        config = {
            **record["config"],
            "facts": facts,
            "optimised_problems": len(record["optimised_ids"]),
            "stages": record["stages"],
            "provenance": {name: _json(folder / "provenance.json") for name, folder in stages.items()},
        }
        tags = [facts[name] for name in _TAGS]
        with self._run(_cell_id(study, record), record_file.stem, study, facts["method"], tags, config) as run:
            _log_history(run, stages["adapt"] / "history.jsonl")
            run.summary.update(_measured(stages))
            if cell is not None:
                shown = cell.samples.head(self.sample_rows)
                run.summary.update({"samples_shown": len(shown), "samples_total": len(cell.samples)})
                run.log({"samples": _table(shown)})

    def _study(self, folder: Path) -> None:
        import wandb

        groups, left_out = read_study(folder, folder.parents[1])
        contents: dict[str, Any] = {name: _table(frame) for name, frame in _frames(groups).items()}
        for file in _found(folder, "csv"):
            contents[f"tables/{_key(file, folder)}"] = _table(pd.read_csv(file))
        for file in _found(folder, "png"):
            contents[f"figures/{_key(file, folder)}"] = wandb.Image(str(file))
        config = {"study": folder.name, "runs": sorted(file.stem for file in folder.glob("*.json"))}
        run_id = digest(["summary", folder.name])[:16]
        with self._run(run_id, f"summary of {folder.name}", folder.name, "summary", [], config) as run:
            run.log(contents)
            run.summary.update({"left_out": left_out})

    @contextmanager
    def _run(
        self, run_id: str, name: str, group: str, job_type: str, tags: list[str], config: Mapping[str, Any]
    ) -> Iterator[Any]:
        """Open one W&B run, gone on with where W&B knows ``run_id`` already, and close it with the block.

        Raises:
            UserError: in online mode where nobody is logged in: wandb itself would ask on a terminal.
        """
        import wandb

        online = self.mode == "online"
        if online and not wandb.login(prompt=False, verify=False):
            raise UserError(
                "nobody is logged in to W&B here; run `wandb login`, set WANDB_API_KEY, or take mode=offline"
            )
        folder = Path(self.dir)
        folder.mkdir(parents=True, exist_ok=True)
        with wandb.init(
            id=run_id,
            name=name,
            group=group,
            job_type=job_type,
            tags=sorted({tag[:_LONGEST_TAG] for tag in tags}),
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            dir=str(folder),
            resume="allow" if online else None,
            settings=_settings(self.timeout),
        ) as run:
            run.config.update(config, allow_val_change=True)
            yield run
        place = run.url if online else f"for `wandb sync {Path(run.dir).parent}`"
        log.info("mirrored %s to W&B: %s", name, place)


def _settings(timeout: float) -> Any:
    import wandb

    return wandb.Settings(
        **_PRIVATE,
        silent=True,
        reinit="create_new",
        init_timeout=timeout,
        finish_timeout=timeout,
        finish_timeout_raises=True,
        # A stop asked for on the web page would interrupt this process, and with it the run.
        stop_fn=lambda: None,
    )


def _cell_id(study: str, record: Mapping[str, Any]) -> str:
    """Return the W&B id of a run: the same cell updates its W&B run.

    Facts as in :func:`ttsv.store.record_name`, so that grading again is no other run; and the adapt stage, because a history that W&B has
    can be added to and never rewritten.
    """
    facts = {name: value for name, value in record["facts"].items() if name != "grader_config"}
    return digest([study, facts, record["stages"]["adapt"]])[:16]


def _log_history(run: Any, file: Path) -> None:
    """Log a row per update, but for those that W&B has from an earlier upload."""
    run.define_metric("update")
    run.define_metric("adapt/*", step_metric="update")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for step, row in enumerate(rows, start=1):
        if step >= run.starting_step:
            others = {f"adapt/{name}": value for name, value in row.items() if name != "update"}
            run.log({"update": row.get("update", step), **others}, step=step)


def _measured(stages: Mapping[str, Path]) -> dict[str, Any]:
    """Return what the stages measured, ``<stage>/<name>``; ``adaptation/<name>`` for what is no row of the history."""
    found = {f"adaptation/{name}": value for name, value in _json(stages["adapt"] / "adaptation.json").items()}
    if "generate" in stages:
        found["generate/seconds"] = _json(stages["generate"] / "metrics.json")["seconds"]
    for stage in [name for name in stages if name.startswith("grade")]:
        metrics = _json(stages[stage] / "metrics.json")
        flags = {f"flags/{name}": count for name, count in metrics.pop("flags", {}).items()}
        found |= {f"{stage}/{name}": value for name, value in (metrics | flags).items()}
    return found


def _frames(groups: list[Group]) -> dict[str, pd.DataFrame]:
    """Return the comparison of all groups (named by ``title``), and its gains with a row per baseline."""
    if not groups:
        return {}
    compared = pd.concat([comparison(group).assign(title=group.title) for group in groups], ignore_index=True)
    shared = ["title", "half", "method", "seed", "n"]
    measures = ("gain", "relative", "p")
    gains = [
        compared[[*shared, *(f"{measure}_{base}" for measure in measures)]]
        .rename(columns={f"{measure}_{base}": measure for measure in measures})
        .assign(baseline=base)
        .dropna(subset="gain")
        for base in BASELINES
    ]
    return {"comparison": compared, "relative_gains": pd.concat(gains, ignore_index=True)}


def _found(folder: Path, ending: str) -> list[Path]:
    """Return a study's files of one kind; ``summary.csv`` is the comparison, which is made anew."""
    files = sorted(folder.rglob(f"*.{ending}"))
    return [file for file in files if file != folder / "summary.csv" and file.stat().st_size]


def _key(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix().removeprefix("figures/")


def _table(frame: pd.DataFrame) -> Any:
    """Return a frame's first ``MAX_ROWS`` rows as a W&B table: missing values as None, and one type in each column, as W&B wants it."""
    import wandb

    shown = frame.head(MAX_ROWS)
    columns = {str(name): _uniform(shown[name]) for name in shown.columns}
    return wandb.Table(columns=list(columns), data=[list(row) for row in zip(*columns.values(), strict=True)])


def _uniform(column: "pd.Series[Any]") -> list[Any]:
    values = [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]
    if pd.api.types.is_numeric_dtype(column):
        return values
    numeric = all(isinstance(value, int | float) for value in values if value is not None)
    return values if numeric else [None if value is None else str(value) for value in values]


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content
