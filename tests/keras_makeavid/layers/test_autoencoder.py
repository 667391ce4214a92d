"""The one layer of the autoencoder that pads as nothing else does."""

import numpy as np
import torch
from keras import ops

from keras_makeavid.layers.autoencoder import ImageDownsample
from keras_makeavid.layers.operations.products import _conv2d_portable, conv2d


def test_the_downsampler_pads_only_below_and_to_the_right():
    layer = ImageDownsample(3)
    images = np.random.default_rng(0).normal(size=(2, 6, 8, 5)).astype("float32")
    outputs = ops.convert_to_numpy(layer(images))

    padded = torch.nn.functional.pad(
        torch.from_numpy(images).permute(0, 3, 1, 2), (0, 1, 0, 1)
    )
    kernel, bias = (torch.from_numpy(w) for w in layer.get_weights())
    expected = torch.nn.functional.conv2d(
        padded, kernel.permute(3, 2, 0, 1), bias, stride=2
    )
    np.testing.assert_allclose(outputs, expected.permute(0, 2, 3, 1), atol=1e-5)


def test_an_unpadded_convolution_agrees_with_its_portable_form():
    random = np.random.default_rng(0)
    inputs, kernel, bias = (
        random.normal(size=shape).astype("float32")
        for shape in ((2, 7, 9, 4), (3, 3, 4, 5), (5,))
    )
    for strides in (1, 2):
        outputs = conv2d(inputs, kernel, bias, strides, padding="valid")
        portable = _conv2d_portable(inputs, kernel, bias, strides, "valid")
        np.testing.assert_allclose(
            ops.convert_to_numpy(outputs), ops.convert_to_numpy(portable), atol=1e-5
        )
