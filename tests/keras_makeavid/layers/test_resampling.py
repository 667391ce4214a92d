"""The samplers against the original."""

import goldens
import numpy as np
import pytest
from keras import ops
from running import runner

from keras_makeavid.layers import Downsample, Upsample
from keras_makeavid.layers.resampling import double_nearest


@pytest.mark.parametrize(
    ("tag", "layer_class"),
    [("downsample_video", Downsample), ("upsample_video", Upsample)],
)
def test_it_agrees_with_the_original(tag, layer_class):
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
