"""A hub data set is read at its revision, and every way of not having it is told in plain words."""

from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest

from ttsv.records import UserError
from ttsv.tasks import Fields, FileTask, HubSource

SHA = "0123456789abcdef0123456789abcdef01234567"


class FakeData(list):
    def __init__(self, rows, cache_file="", checksums=None):
        super().__init__(rows)
        self.cache_files = [{"filename": cache_file}] if cache_file else []
        self.info = SimpleNamespace(download_checksums=checksums)


def task(**source):
    hub = HubSource("org/set", "test", config="main", **source)
    return FileTask("toy", Fields(question="problem", gold="solution", gold_from="last_box"), hub)


@pytest.fixture
def hub(monkeypatch):
    """Replaces the hub: set ``result`` to rows or an exception; ``asked`` records the arguments."""
    state = SimpleNamespace(result=None, asked=None)

    def load_dataset(*args, **kwargs):
        state.asked = (args, kwargs)
        if isinstance(state.result, Exception):
            raise state.result
        return state.result

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return state


def test_the_pinned_revision_is_asked_for_and_reported(hub):
    hub.result = FakeData([{"problem": "p", "solution": r"\boxed{3}"}])
    loaded = task(revision=SHA).read(None)
    assert hub.asked == (("org/set", "main"), {"split": "test", "revision": SHA})
    assert loaded.problems[0].gold == "3"
    assert {key: loaded.provenance[key] for key in ("source", "path", "config", "split", "revision", "rows")} == {
        "source": "hub",
        "path": "org/set",
        "config": "main",
        "split": "test",
        "revision": SHA,
        "rows": 1,
    }


@pytest.mark.parametrize(
    "data",
    [
        FakeData([{"problem": "p", "solution": r"\boxed{3}"}], cache_file=f"cache/org___set/main/0.0.0/{SHA}/s.arrow"),
        FakeData([{"problem": "p", "solution": r"\boxed{3}"}], checksums={f"hf://datasets/org/set@{SHA}/t.jsonl": {}}),
    ],
    ids=["cache path", "download record"],
)
def test_an_unpinned_data_set_reports_the_commit_that_was_used(hub, data):
    hub.result = data
    assert task().read(None).provenance["revision"] == SHA


def test_the_hub_may_name_its_fields_differently_from_the_file(hub, tmp_path):
    hub.result = FakeData([{"question": "p", "answer": "4"}])
    both = task(fields=Fields(question="question", gold="answer"))
    assert both.load(None)[0].gold == "4"
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "test.jsonl").write_text(r'{"problem": "p", "solution": "\\boxed{4}"}')
    assert both.load(tmp_path) == both.load(None)


def test_rows_of_the_real_library_are_read_like_those_of_a_file(monkeypatch, tmp_path):
    row = '{"id": 7, "question": "q", "final_answer": ["$2$"], "meta": {"kind": "x"}}'
    for folder in ("set", "toy"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.jsonl").write_text(row + "\n")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    fields = Fields(question="question", gold="final_answer", gold_from="first_of_list", id="id", subject="meta.kind")
    both = FileTask("toy", fields, HubSource(str(tmp_path / "set"), "test"))
    assert both.load(None) == both.load(tmp_path)
    assert (both.load(None)[0].gold, both.load(None)[0].subject) == ("2", "x")


def test_a_faulty_hub_row_is_named(hub):
    hub.result = FakeData([{"problem": "p", "solution": r"\boxed{3}"}, {"problem": "p", "solution": "none"}])
    with pytest.raises(UserError, match=r"hub data set org/set \(test split, config main\), row 1: gold answer"):
        task().load(None)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'org/set' is a gated dataset on the Hub."),
            "accept its terms",
        ),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'org/set' doesn't exist on the Hub"), "check its name"),
        (ConnectionError("Couldn't reach 'org/set' on the Hub (OfflineModeIsEnabled)"), "unset HF_HUB_OFFLINE"),
        (ConnectionError("Couldn't reach 'org/set' on the Hub (LocalEntryNotFoundError)"), "check the connection"),
        (ValueError("Unknown split 'test'"), "check the config and split"),
    ],
)
def test_a_hub_failure_says_what_to_do_and_names_the_way_without_the_hub(hub, error, advice):
    hub.result = error
    with pytest.raises(UserError) as caught:
        task().load(None)
    assert advice in str(caught.value)
    assert "data_dir=<folder>" in str(caught.value)
    assert "toy/test.jsonl" in str(caught.value)


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    return tmp_path


def asks(monkeypatch, error: Exception | None):
    def answer(*args, **kwargs):
        if error:
            raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", answer)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", answer)


def test_availability_knows_a_cached_data_set_without_asking_the_hub(monkeypatch, empty_cache):
    asks(monkeypatch, AssertionError("the hub was asked"))
    folder = Path(empty_cache) / "org___set" / "main" / "0.0.0" / SHA
    folder.mkdir(parents=True)
    (folder / "set-test.arrow").touch()
    assert "in the local cache" in task(revision=SHA).availability(None)


def test_availability_downloads_nothing(monkeypatch, empty_cache, hub):
    asks(monkeypatch, None)
    assert "to be downloaded" in task(revision=SHA).availability(None)
    assert hub.asked is None
    assert list(Path(empty_cache).iterdir()) == []


def test_availability_raises_when_the_hub_is_out_of_reach(monkeypatch, empty_cache):
    asks(monkeypatch, OSError("Name or service not known"))
    with pytest.raises(UserError, match=r"check the connection.*data_dir=<folder>"):
        task(revision=SHA).availability(None)
