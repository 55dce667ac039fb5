"""A soft prompt on disk: what was saved is read back, other formats are read too, and what is no vector is refused."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ttsv.records import UserError
from ttsv.soft_prompt import SoftPrompt, load_soft_prompt, write_tensors
from ttsv.store import write_atomically


@pytest.fixture
def vectors() -> torch.Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def test_what_was_saved_is_read_back_bit_for_bit_with_its_metadata(tmp_path: Path, vectors: torch.Tensor) -> None:
    SoftPrompt(vectors, {"method": "ttsv", "seeds": {"order": 3}}).save(tmp_path / "vector.safetensors")
    for place in (tmp_path / "vector.safetensors", tmp_path):
        found = load_soft_prompt(place)
        assert torch.equal(found.vectors, vectors)
        assert found.metadata == {"method": "ttsv", "seeds": {"order": 3}}


def test_the_digest_is_of_the_numbers_alone(vectors: torch.Tensor) -> None:
    assert SoftPrompt(vectors, {"a": 1}).content_digest() == SoftPrompt(vectors.clone()).content_digest()
    nudged = vectors.clone()
    nudged[4, 7] = torch.nextafter(nudged[4, 7], torch.tensor(9.0))
    assert SoftPrompt(nudged).content_digest() != SoftPrompt(vectors).content_digest()
    assert SoftPrompt(vectors.view(8, 5)).content_digest() != SoftPrompt(vectors).content_digest()


def test_a_transposed_view_has_the_digest_of_its_numbers(vectors: torch.Tensor) -> None:
    view = vectors.T.contiguous().T
    assert not view.is_contiguous()
    assert SoftPrompt(view).content_digest() == SoftPrompt(vectors).content_digest()


def test_a_released_file_is_read(tmp_path: Path, vectors: torch.Tensor) -> None:
    torch.save({"weight": vectors.to(torch.bfloat16)}, tmp_path / "prefix_embeddings.pt")
    found = load_soft_prompt(tmp_path).vectors
    assert found.dtype == torch.float32
    assert torch.equal(found, vectors.to(torch.bfloat16).float())


def test_pefts_file_is_read(tmp_path: Path, vectors: torch.Tensor) -> None:
    save_file({"prompt_embeddings": vectors}, tmp_path / "adapter_model.safetensors")
    assert torch.equal(load_soft_prompt(tmp_path).vectors, vectors)


class Harmful:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}, "expected one matrix"),
        ({"weight": torch.zeros(3)}, "expected one matrix"),
        ({}, "expected one matrix"),
        ({"weight": torch.tensor([[1.0, float("nan")]])}, "not finite"),
        (torch.zeros(3), "expected one matrix"),
        ({"weight": torch.zeros(2, 3), "more": Harmful()}, "holds more than tensors"),
    ],
)
def test_a_file_that_holds_no_vector_is_refused(
    tmp_path: Path, content: Any, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prefix_embeddings.pt"
    torch.save(content, file)
    with pytest.raises(UserError, match=named) as caught:
        load_soft_prompt(file)
    assert str(file) in str(caught.value)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["vector.safetensors", "prefix_embeddings.pt"])
def test_a_truncated_file_is_named(tmp_path: Path, vectors: torch.Tensor, name: str) -> None:
    whole = tmp_path / "whole"
    if name.endswith(".pt"):
        torch.save({"weight": vectors}, whole)
    else:
        SoftPrompt(vectors).save(whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(UserError, match="not a readable vector file"):
        load_soft_prompt(tmp_path / name)


def test_a_missing_file_or_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no vector at .*none\.pt"):
        load_soft_prompt(tmp_path / "none.pt")
    with pytest.raises(UserError, match="holds no vector"):
        load_soft_prompt(tmp_path)


def test_tensors_are_written_without_a_copy_and_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path, tensors = tmp_path / "weights.safetensors", {"w": torch.ones(1024, 1024)}
    tracemalloc.start()
    write_tensors(path, tensors, {})
    assert tracemalloc.get_traced_memory()[1] < tensors["w"].nbytes / 4
    tracemalloc.stop()
    with pytest.raises(AttributeError):
        write_tensors(path, tensors | {"v": None}, {})  # type: ignore[dict-item]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", "where a folder is, no file can be put")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", path.name]
    assert torch.equal(load_file(path)["w"], tensors["w"])
