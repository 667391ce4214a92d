"""Matrix product over the last axis."""

from __future__ import annotations

import keras
from keras import ops

from keras_makeavid.devices import summed_in_float32
from keras_makeavid.tensor import Tensor


def dense(inputs: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Take the matrix product over the last axis, plus a bias."""
    if keras.config.backend() == "torch":
        # One kernel, which adds the bias inside the product.
        import torch

        inputs, kernel, bias = map(ops.convert_to_tensor, (inputs, kernel, bias))
        return torch.nn.functional.linear(inputs, kernel.t(), bias)
    return summed_in_float32(_dense_portable, inputs, kernel, bias)


def _dense_portable(inputs, kernel, bias):
    return ops.add(ops.matmul(inputs, kernel), bias)
