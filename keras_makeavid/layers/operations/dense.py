"""Matrix product over the last axis."""

from __future__ import annotations

import keras
from keras import ops

from keras_makeavid.devices import summed_in_float32
from keras_makeavid.tensor import Tensor


def dense(inputs: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Take the matrix product over the last axis, plus a bias if there is one."""
    if keras.config.backend() == "torch":
        # One kernel, which adds the bias inside the product.
        import torch

        inputs, kernel, *biases = map(
            ops.convert_to_tensor, given(inputs, kernel, bias)
        )
        return torch.nn.functional.linear(inputs, kernel.t(), *biases)
    return summed_in_float32(_dense_portable, *given(inputs, kernel, bias))


def given(*arrays: Tensor | None) -> list[Tensor]:
    """Leave out what is `None`."""
    return [array for array in arrays if array is not None]


def _dense_portable(inputs, kernel, *bias):
    outputs = ops.matmul(inputs, kernel)
    return ops.add(outputs, *bias) if bias else outputs
