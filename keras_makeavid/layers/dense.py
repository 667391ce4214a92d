"""A dense layer that adds its bias inside the matrix product."""

from __future__ import annotations

import keras

from keras_makeavid.layers.operations.dense import dense


@keras.saving.register_keras_serializable(package="keras_makeavid")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` with a bias and no activation, as one operation."""

    def call(self, inputs, training=None):
        """Transform `(..., C)` to `(..., units)`."""
        return dense(inputs, self.kernel, self.bias)
