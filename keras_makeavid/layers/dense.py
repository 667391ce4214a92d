"""A dense layer that adds its bias inside the matrix product."""

from __future__ import annotations

import keras

from keras_makeavid.layers.operations.dense import dense
from keras_makeavid.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_makeavid")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` with a bias and no activation, as one operation."""

    def call(self, inputs, training=None) -> Tensor:
        """Transform `(..., C)` to `(..., units)`."""
        return dense(inputs, self.kernel, self.bias)
