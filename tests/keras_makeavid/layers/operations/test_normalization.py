"""Each form of the operations against torch: values, gradients, half precision."""

import keras
import numpy as np
import pytest
import torch
from gradients import value_and_gradients
from keras import ops
from operation_forms import assert_agrees, forms, normal

from keras_makeavid.layers.operations import normalization as module


@pytest.mark.parametrize("group_normalization", forms(module, "group_normalization"))
@pytest.mark.parametrize("mean", [0, 100])
@pytest.mark.parametrize("shape", [(2, 6, 8), (2, 4, 5, 8), (2, 3, 4, 5, 8)])
def test_group_normalization_agrees_with_torch(group_normalization, shape, mean):
    def reference(inputs, scale, offset):
        x = inputs.double().movedim(-1, 1)
        x = torch.nn.functional.group_norm(x, 2, scale.double(), offset.double(), 1e-5)
        return x.movedim(1, -1).float()

    assert_agrees(
        lambda *arrays: group_normalization(*arrays, groups=2, epsilon=1e-5),
        reference,
        normal(*shape) + np.float32(mean),
        normal(8, seed=1),
        normal(8, seed=2),
    )


@pytest.mark.parametrize("group_normalization", forms(module, "group_normalization"))
def test_group_normalization_keeps_the_digits_of_values_far_from_zero(
    group_normalization,
):
    # In float32 E[x^2] - E[x]^2 of these is off by more than the variance.
    inputs = normal(1, 32, 32, 16) + np.float32(1e4)
    outputs = group_normalization(inputs, np.ones(16), np.zeros(16), 4, 1e-5)
    x = torch.from_numpy(inputs).double().movedim(-1, 1)
    expected = torch.nn.functional.group_norm(x, 4).movedim(1, -1)
    # The mean itself is rounded to 1e-3.
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs), expected, atol=2e-3, rtol=0
    )


def test_group_normalization_has_gradients_where_only_its_scale_trains():
    scale = keras.Variable(normal(8, seed=1))
    inputs = normal(2, 3, 1, 4, 8)

    def function():
        outputs = module.group_normalization(inputs, scale, np.zeros(8), 4, 1e-5)
        return ops.sum(outputs * ops.convert_to_tensor(inputs))

    _, (gradient,) = value_and_gradients(function, [scale])
    outputs = module.group_normalization(inputs, np.ones(8), np.zeros(8), 4, 1e-5)
    expected = np.sum(ops.convert_to_numpy(outputs) * inputs, axis=(0, 1, 2, 3))
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize("layer_normalization", forms(module, "layer_normalization"))
@pytest.mark.parametrize("mean", [0, 10])
def test_layer_normalization_agrees_with_torch(layer_normalization, mean):
    def reference(*arrays):
        x, *rest = (array.double() for array in arrays)
        return torch.nn.functional.layer_norm(x, (32,), *rest, 1e-3).float()

    assert_agrees(
        lambda *arrays: layer_normalization(*arrays, 1e-3),
        reference,
        normal(2, 5, 32) + np.float32(mean),
        normal(32, seed=1),
        normal(32, seed=2),
    )
