"""Layer normalisation."""

from __future__ import annotations

import keras
from keras import ops

from keras_makeavid.tensor import Tensor


def layer_normalization(
    inputs: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> Tensor:
    """Normalise over the last axis, in float32 whatever the dtype of `inputs`."""
    if keras.config.backend() == "torch":
        return ops.layer_normalization(inputs, scale, offset, epsilon=epsilon)
    return _layer_normalization_portable(inputs, scale, offset, epsilon)


def _layer_normalization_portable(inputs, scale, offset, epsilon):
    # Keras's own takes the mean from the products: more kernels to compile for XLA,
    # and less exact far from zero.
    x = ops.cast(inputs, "float32")
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    scale, offset = ops.cast(scale, "float32"), ops.cast(offset, "float32")
    outputs = centred * ops.rsqrt(variance + epsilon) * scale + offset
    return ops.cast(outputs, inputs.dtype)
