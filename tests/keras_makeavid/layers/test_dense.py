"""The feed-forward against torch's exact and tanh GELU."""

import numpy as np
import pytest
import torch
from running import built, runner

from keras_makeavid.layers import FeedForward


@pytest.mark.parametrize(("gelu", "approximate"), [("exact", "none"), ("tanh", "tanh")])
def test_it_gates_by_the_second_half(gelu, approximate):
    # Gates around -3, where the two forms differ most.
    inputs = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32") * 4
    layer = built(FeedForward(6, gelu=gelu), inputs)
    outputs = runner(layer)(inputs)
    kernel_in, bias_in, kernel_out, bias_out = (
        torch.from_numpy(w) for w in layer.get_weights()
    )
    assert kernel_in.shape == (6, 48)
    value, gate = (torch.from_numpy(inputs) @ kernel_in + bias_in).chunk(2, dim=-1)
    gate = torch.nn.functional.gelu(gate, approximate=approximate)
    expected = (value * gate) @ kernel_out + bias_out
    np.testing.assert_allclose(outputs, expected, atol=1e-5, rtol=0)


def test_an_unknown_gelu_is_refused():
    with pytest.raises(ValueError, match=r"\['exact', 'tanh'\]. Received: 'quick'"):
        FeedForward(6, gelu="quick")
