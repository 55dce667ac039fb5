"""The store: a result appears at once, whole and under its own key, or not at all."""

import json
import logging
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ttsv import store as store_module
from ttsv.store import (
    KEY,
    MANIFEST,
    UNFINISHED,
    DamagedStageError,
    Stage,
    Store,
    digest,
    once,
    read_manifest,
    write_atomically,
)

KEY_A = {"model": "m", "options": {"rate": 0.1, "names": ["a", "b"]}}


def stage_in(folder: Path, key: dict[str, Any] = KEY_A) -> Stage:
    return Store(folder).stage("adapt", "some method", key)


def finish(stage: Stage, content: str = "42") -> Stage:
    with stage.locked():
        with stage.open_work() as work:
            write_atomically(work / "result.txt", content)
            (work / "vectors").mkdir(exist_ok=True)
            write_atomically(work / "vectors" / "one.txt", content)
        stage.commit()
    return stage


def test_equal_keys_have_one_address_whatever_their_order(tmp_path: Path) -> None:
    other = {"options": {"names": ("a", "b"), "rate": 0.1}, "model": "m"}
    assert stage_in(tmp_path, other) == stage_in(tmp_path)


def test_a_result_is_found_under_another_label_and_unfinished_work_is_none(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    with stage.open_work():
        pass
    assert stage_in(tmp_path).path == stage.path
    finish(stage)
    relabelled = Store(tmp_path).stage("adapt", "another label", KEY_A)
    assert relabelled.path == stage.path
    assert relabelled.is_complete()


@pytest.mark.parametrize(
    "changed",
    [
        {**KEY_A, "model": "n"},
        {**KEY_A, "more": None},
        {"model": "m", "options": {"rate": 0.1, "names": ["b", "a"]}},
        {"model": "m", "options": {"rate": 0.1000000001, "names": ["a", "b"]}},
    ],
)
def test_a_changed_key_has_another_address(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert stage_in(tmp_path, changed).path != stage_in(tmp_path).path
    assert stage_in(tmp_path, changed).work != stage_in(tmp_path).work


def test_a_key_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"rate": float("nan")})


def test_a_stage_is_complete_only_after_its_commit(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    with stage.locked(), stage.open_work() as work:
        write_atomically(work / "result.txt", "42")
        assert not stage.is_complete()
        assert not stage.path.exists()
    stage.commit()
    assert stage.is_complete()
    assert not stage.work.exists()
    manifest = read_manifest(stage.path)
    assert manifest["key"] == KEY_A
    assert "result.txt" in manifest["files"]
    assert KEY not in manifest["files"]


def test_a_folder_without_a_manifest_is_no_result(tmp_path: Path) -> None:
    stage = finish(stage_in(tmp_path))
    (stage.path / MANIFEST).unlink()
    with pytest.raises(DamagedStageError, match=r"manifest\.json is missing"):
        stage.is_complete()


@pytest.mark.parametrize("file", ["result.txt", "vectors/one.txt"])
def test_an_edited_file_is_named(tmp_path: Path, file: str) -> None:
    stage = finish(stage_in(tmp_path))
    (stage.path / file).write_text("43")
    with pytest.raises(DamagedStageError, match=rf"{file} was changed .*run the same command again"):
        stage.is_complete()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    stage = finish(stage_in(tmp_path))
    (stage.path / "result.txt").unlink()
    with pytest.raises(DamagedStageError, match=r"result\.txt is missing"):
        stage.is_complete()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": null, "key": 1, "digest": 2, "kind": 3}', "\xff"])
def test_an_unreadable_manifest_is_named(tmp_path: Path, content: str) -> None:
    stage = finish(stage_in(tmp_path))
    (stage.path / MANIFEST).write_bytes(content.encode("latin-1"))
    with pytest.raises(DamagedStageError, match=r"manifest\.json is not a readable manifest"):
        stage.is_complete()


def test_an_edited_key_is_noticed(tmp_path: Path) -> None:
    stage = finish(stage_in(tmp_path))
    manifest = json.loads((stage.path / MANIFEST).read_text())
    manifest["key"]["model"] = "another"
    (stage.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DamagedStageError, match="another"):
        stage.is_complete()


def test_a_result_copied_under_another_address_is_noticed(tmp_path: Path) -> None:
    first, second = finish(stage_in(tmp_path)), stage_in(tmp_path, {"model": "n"})
    shutil.copytree(first.path, second.path)
    with pytest.raises(DamagedStageError, match="belongs to another result"):
        second.is_complete()
    with pytest.raises(DamagedStageError, match="belongs to another result"):
        read_manifest(second.path)


def test_a_file_that_is_not_listed_is_named_and_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = finish(stage_in(tmp_path))
    (stage.path / "notes.txt").write_text("mine")
    with caplog.at_level(logging.WARNING):
        assert stage.is_complete()
    assert "notes.txt is not part of the result" in caplog.text


def test_work_of_another_key_is_refused(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    stage.work.mkdir(parents=True)
    (stage.work / KEY).write_text(json.dumps({"model": "n"}))
    with pytest.raises(DamagedStageError, match=r"key\.json belongs to another result"), stage.open_work():
        pass


def test_work_without_a_key_is_refused(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    stage.work.mkdir(parents=True)
    (stage.work / "checkpoint.safetensors").write_text("whose?")
    with pytest.raises(DamagedStageError, match="holds files but no key"), stage.open_work():
        pass


def test_a_damaged_key_file_is_named(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    stage.work.mkdir(parents=True)
    (stage.work / KEY).write_text('{"mod')
    with pytest.raises(DamagedStageError, match=r"key\.json"), stage.open_work():
        pass


def test_interrupted_work_is_gone_on_with(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)

    def compute(work: Path) -> None:
        write_atomically(work / "half.txt", "1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once(stage, compute, dict)
    with stage.open_work() as work:
        assert (work / "half.txt").read_text() == "1"


def test_an_atomic_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file.txt"
    write_atomically(file, "old")

    def fail(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(file, "new")
    assert file.read_text() == "old"


def test_what_serves_an_interrupted_run_alone_does_not_enter_the_result(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    with stage.open_work() as work:
        (work / UNFINISHED).mkdir()
        (work / UNFINISHED / "checkpoint").write_text("half way")
    finish(stage)
    assert not (stage.path / UNFINISHED).exists()
    assert stage.is_complete()


def test_temporary_files_of_a_killed_writer_do_not_enter_the_result(tmp_path: Path) -> None:
    stage = stage_in(tmp_path)
    with stage.open_work() as work:
        (work / "vectors").mkdir()
        for folder in (work, work / "vectors"):
            (folder / ".one.txt.123.tmp").write_text("half a fi")
    finish(stage)
    assert [name for name in read_manifest(stage.path)["files"] if name.endswith(".tmp")] == []
    assert list(stage.path.rglob("*.tmp")) == []


class KilledError(BaseException):
    """Stands for SIGKILL at one place."""


@pytest.mark.parametrize("place", ["before the rename", "before the manifest"])
def test_a_commit_that_was_cut_off_ends_in_a_whole_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    stage = stage_in(tmp_path)
    computed = []

    def compute(work: Path) -> None:
        computed.append(1)
        write_atomically(work / "result.txt", "42")

    def die(*args: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        if place == "before the rename":
            patched.setattr(Path, "rename", die)
        else:
            whole = store_module.write_atomically
            patched.setattr(
                store_module,
                "write_atomically",
                lambda path, data: die() if path.name == MANIFEST else whole(path, data),
            )
        with pytest.raises(KilledError):
            once(stage, compute, dict)
    once(stage, compute, dict)
    assert stage.is_complete()
    assert (stage.path / "result.txt").read_text() == "42"
    assert len(computed) == (1 if place == "before the rename" else 2)


def _compute_slowly(root: str, counter: str) -> None:
    def compute(work: Path) -> None:
        with Path(counter).open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        time.sleep(0.4)
        write_atomically(work / "result.txt", "42")

    outcome = once(stage_in(Path(root)), compute, dict)
    assert outcome.stage.is_complete()


def test_two_processes_on_one_cell_compute_it_once_and_both_succeed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = (str(tmp_path), str(tmp_path / "counter"))
    processes = [context.Process(target=_compute_slowly, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len((tmp_path / "counter").read_text().split()) == 1
    assert (stage_in(tmp_path).path / "result.txt").read_text() == "42"


def test_a_killed_holder_frees_its_stage(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_compute_slowly, args=(str(tmp_path), str(tmp_path / "counter")))
    process.start()
    while not (tmp_path / "counter").exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert not stage_in(tmp_path).path.exists()
    finish(stage_in(tmp_path))
    assert stage_in(tmp_path).is_complete()
