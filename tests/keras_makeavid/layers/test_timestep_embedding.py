"""The timestep embedding against diffusers', in every precision."""

import numpy as np
import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from keras import ops
from running import built, runner

from keras_makeavid.layers import TimestepEmbedding, sinusoidal_embedding


@pytest.mark.parametrize(("width", "bound"), [(32, 1e-6), (320, 7e-5)])
def test_the_sinusoid_agrees_with_diffusers(width, bound):
    timesteps = np.array([0, 1, 17, 500, 999], "int32")
    expected = get_timestep_embedding(
        torch.from_numpy(timesteps),
        width,
        flip_sin_to_cos=True,
        downscale_freq_shift=0,
    )
    outputs = ops.convert_to_numpy(sinusoidal_embedding(timesteps, width))
    # float32 angles up to 999 are 6e-5 apart: the wider one's exponentials are rounded
    # otherwise by torch.
    np.testing.assert_allclose(outputs, expected, atol=bound, rtol=0)


def test_it_is_a_dense_layer_silu_and_a_dense_layer():
    timesteps = np.array([3, 700], "int32")
    layer = built(TimestepEmbedding(8, 12), timesteps)
    outputs = runner(layer)(timesteps)
    kernel_1, bias_1, kernel_2, bias_2 = layer.get_weights()
    sinusoid = ops.convert_to_numpy(sinusoidal_embedding(timesteps, 8))
    hidden = sinusoid @ kernel_1 + bias_1
    expected = hidden / (1 + np.exp(-hidden)) @ kernel_2 + bias_2
    np.testing.assert_allclose(outputs, expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize(
    "policy", ["bfloat16", "mixed_bfloat16", "float16", "mixed_float16"]
)
def test_half_precision_tells_neighbouring_timesteps_apart(policy, dtype):
    # bfloat16 has no 999, float16 no 2049.
    timesteps = np.array([999, 1000, 2048, 2049], dtype)
    exact = TimestepEmbedding(32, 64)
    half = TimestepEmbedding(32, 64, dtype=policy)
    for layer in (exact, half):
        layer.build((None,))
    half.set_weights(exact.get_weights())
    expected = runner(exact)(timesteps)
    outputs = runner(half)(timesteps).astype("float32")
    assert half.compute_dtype in policy
    apart = np.linalg.norm(expected[::2] - expected[1::2], axis=-1)
    error = np.linalg.norm(outputs - expected, axis=-1)
    assert error.max() < 0.2 * apart.min()
