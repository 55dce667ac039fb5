"""Linear layers with the weight first: the same numbers, in fp32 on a processor alone, and for as long as asked."""

import pytest
import torch
from tiny_models import tiny_lm
from torch.nn.functional import linear

from ttsv.engines.linear_layers import weights_first


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])  # without and with biases
@pytest.mark.parametrize("shape", [(3, 1), (2, 7), (1, 1)])
def test_logits_are_the_same_and_no_layer_goes_through_the_library(
    architecture: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, calls = tiny_lm(architecture), []
    ids = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3))
    for layer in lm.model.modules():
        if isinstance(layer, torch.nn.Linear) and layer.bias is not None:
            layer.bias.normal_(generator=torch.Generator().manual_seed(4))
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *args: calls.append(args) or linear(*args))
    with torch.inference_mode():
        expected = lm.model(ids).logits
        assert calls
        calls.clear()
        with weights_first(lm):
            found = lm.model(ids).logits
        assert not calls
        assert torch.equal(lm.model(ids).logits, expected)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_go_through_the_library(dtype: torch.dtype) -> None:
    lm = tiny_lm("llama", dtype)
    with weights_first(lm):
        assert not any("forward" in vars(module) for module in lm.model.modules())


def test_an_error_inside_leaves_no_layer_changed() -> None:
    lm = tiny_lm()
    with pytest.raises(KeyError), weights_first(lm):
        raise KeyError
    assert not any("forward" in vars(module) for module in lm.model.modules())
