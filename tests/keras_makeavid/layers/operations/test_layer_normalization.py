"""Each form of the operation against torch: values, gradients, half precision."""

import numpy as np
import pytest
import torch
from operation_forms import assert_agrees, forms, normal

from keras_makeavid.layers.operations import layer_normalization as module


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
