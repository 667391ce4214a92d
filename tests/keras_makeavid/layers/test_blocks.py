"""The UNet's parts without attention, against diffusers and the original."""

import goldens
import numpy as np
import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from keras import ops
from running import built, runner

from keras_makeavid.layers import (
    Downsample,
    ResidualBlock,
    TimestepEmbedding,
    Upsample,
    sinusoidal_embedding,
)
from keras_makeavid.layers.blocks import double_nearest


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


@pytest.mark.parametrize(
    ("tag", "channels"), [("resnet_same_video", 32), ("resnet_shortcut_video", 64)]
)
def test_the_residual_block_agrees_with_the_original(tag, channels):
    layer = ResidualBlock(channels)
    inputs = goldens.layer_inputs(tag)
    layer.build(*(x.shape for x in inputs))
    goldens.load_layer(layer, tag)
    outputs = runner(layer)(*inputs)
    np.testing.assert_allclose(outputs, goldens.layer_output(tag), atol=1e-5, rtol=0)


def test_the_statistics_of_the_residual_block_run_over_the_frames():
    random = np.random.default_rng(0)
    video = random.normal(size=(1, 3, 4, 4, 4)).astype("float32")
    video[:, 0] += 5
    time_embedding = random.normal(size=(1, 8)).astype("float32")
    run = runner(built(ResidualBlock(4, groups=2), video, time_embedding))
    outputs = run(video, time_embedding)
    alone = run(video[:, :1], time_embedding)
    assert np.abs(outputs[:, :1] - alone).max() > 0.1


def test_the_time_embedding_is_the_same_for_all_frames():
    random = np.random.default_rng(0)
    image = random.normal(size=(2, 1, 4, 4, 4)).astype("float32")
    time_embedding = random.normal(size=(2, 8)).astype("float32")
    run = runner(built(ResidualBlock(4, groups=2), image, time_embedding))
    video = run(image.repeat(3, axis=1), time_embedding)
    expected = run(image[:, 0], time_embedding)
    for frame in range(3):
        np.testing.assert_allclose(video[:, frame], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("tag", "layer_class"),
    [("downsample_video", Downsample), ("upsample_video", Upsample)],
)
def test_a_sampler_agrees_with_the_original(tag, layer_class):
    layer = layer_class(32)
    (inputs,) = goldens.layer_inputs(tag)
    layer.build(inputs.shape)
    goldens.load_layer(layer, tag)
    outputs = runner(layer)(inputs)
    np.testing.assert_allclose(outputs, goldens.layer_output(tag), atol=1e-5, rtol=0)


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_doubling_repeats_each_pixel_two_by_two(leading):
    images = np.random.default_rng(0).normal(size=(*leading, 3, 4, 2))
    images = images.astype("float32")
    expected = images.repeat(2, axis=-3).repeat(2, axis=-2)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(double_nearest(images)), expected
    )
