"""Pseudo-3D convolution against the original, torch, and its own promises."""

import goldens
import numpy as np
import pytest
import torch
from running import built, runner

from keras_makeavid.layers import (
    PseudoConv3D,
    SpatialConv,
    TemporalConv,
    TemporalIdentity,
)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    ("tag", "arguments"),
    [
        ("conv_k3_video", {"filters": 64}),
        ("conv_k1_video", {"filters": 64, "kernel_size": 1}),
        ("conv_k3_stride2_video", {"filters": 32, "strides": 2}),
        ("conv_k3_image", {"filters": 64}),
    ],
)
def test_it_agrees_with_the_original(tag, arguments):
    layer = PseudoConv3D(**arguments)
    (inputs,) = goldens.layer_inputs(tag)
    layer.build(inputs.shape)
    goldens.load_layer(layer, tag)
    outputs = runner(layer)(inputs)
    np.testing.assert_allclose(outputs, goldens.layer_output(tag), atol=1e-5, rtol=0)


def test_on_an_image_the_temporal_convolution_is_skipped():
    layer = PseudoConv3D(3)
    layer.build((None, None, None, 5))
    layer.temporal_conv.kernel.assign(normal((3, 3, 3)))
    images = normal((2, 6, 4, 5))
    np.testing.assert_array_equal(
        runner(layer)(images),
        runner(layer.spatial_conv)(images),
    )


def test_a_new_one_convolves_every_frame_on_its_own():
    video = normal((2, 3, 4, 5, 2))
    run = runner(built(PseudoConv3D(6), video))
    outputs = run(video)
    for frame in range(3):
        image = run(video[:, frame])
        np.testing.assert_allclose(outputs[:, frame], image, atol=1e-6)


def test_a_new_temporal_convolution_changes_nothing():
    video = normal((2, 4, 3, 5, 6))
    layer = built(TemporalConv(), video)
    np.testing.assert_allclose(runner(layer)(video), video, atol=1e-6, rtol=0)


def test_a_temporal_convolution_is_torchs_conv1d_over_frames():
    video = normal((2, 5, 3, 4, 6))
    layer = TemporalConv()
    layer.build(video.shape)
    kernel, bias = normal((3, 6, 6), 1), normal((6,), 2)
    layer.set_weights([kernel, bias])
    expected = torch.nn.functional.conv1d(
        torch.from_numpy(video).permute(0, 2, 3, 4, 1).reshape(-1, 6, 5),
        torch.from_numpy(kernel).permute(2, 1, 0),
        torch.from_numpy(bias),
        padding=1,
    )
    expected = expected.reshape(2, 3, 4, 6, 5).permute(0, 4, 1, 2, 3).numpy()
    np.testing.assert_allclose(runner(layer)(video), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_a_spatial_convolution_of_stride_2_pads_on_both_sides(size):
    images = normal((2, *size, 3))
    layer = SpatialConv(4, strides=2)
    layer.build(images.shape)
    kernel, bias = normal((3, 3, 3, 4), 1), normal((4,), 2)
    layer.set_weights([kernel, bias])
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(images).permute(0, 3, 1, 2),
        torch.from_numpy(kernel).permute(3, 2, 0, 1),
        torch.from_numpy(bias),
        stride=2,
        padding=1,
    )
    expected = expected.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(runner(layer)(images), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(2, 3, 3), (3, 4, 5), (3, 3)])
def test_the_temporal_identity_refuses_kernels_that_cannot_be_one(shape):
    with pytest.raises(ValueError, match=r"odd K, C, C.*Received: shape="):
        TemporalIdentity()(shape)


@pytest.mark.parametrize("size", [0, 2, -1])
def test_even_kernels_are_refused(size):
    message = f"^kernel_size must be odd and positive. Received: {size}"
    with pytest.raises(ValueError, match=message):
        PseudoConv3D(4, kernel_size=size)
