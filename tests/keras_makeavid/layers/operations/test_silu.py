"""Each form of the operation against torch: values, gradients, half precision."""

import keras
import numpy as np
import pytest
import torch
from keras import ops
from operation_forms import forms, normal

from keras_makeavid.layers.operations import silu as module


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("silu", forms(module, "silu"))
def test_silu_is_that_of_float32_rounded_once(silu, dtype):
    x = ops.cast(3 * normal(1000), dtype)
    exact = torch.from_numpy(ops.convert_to_numpy(ops.cast(x, "float32"))).double()
    expected = exact * torch.sigmoid(exact)
    outputs = silu(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    step = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2e-6}[dtype]
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(outputs, "float32")),
        expected,
        rtol=step,
        atol=1e-7,
    )
