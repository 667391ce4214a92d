"""A dense layer that adds its bias inside the matrix product."""

from __future__ import annotations

import keras

from keras_makeavid.layers.operations.dense import dense


@keras.saving.register_keras_serializable(package="keras_makeavid")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` with a bias and no activation, as one operation.

    Args:
        units: width of the output.
        **kwargs: see `keras.layers.Dense`.

    Example:
    ```python
    Dense(8)(keras.ops.ones((2, 10, 4))).shape  # (2, 10, 8)
    ```
    """

    def call(self, inputs, training=None):
        """Transform `(..., C)` to `(..., units)`."""
        return dense(inputs, self.kernel, self.bias)
