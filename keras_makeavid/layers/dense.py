"""A dense layer that adds its bias inside the product, and a feed-forward of two."""

from typing import Any

import keras

from keras_makeavid.layers.int8 import Int8Kernel
from keras_makeavid.layers.layer import ShapeKeepingLayer
from keras_makeavid.layers.operations.activations import gated_gelu
from keras_makeavid.layers.operations.products import dense, first_values
from keras_makeavid.tensor import Tensor
from keras_makeavid.validation import check_choice

GELU_APPROXIMATIONS = {"exact": False, "tanh": True}
_EXPANSION = 4


@keras.saving.register_keras_serializable(package="keras_makeavid")
class Dense(Int8Kernel, keras.layers.Dense):
    """Keras's layer with its bias in the product; int8 rounds its kernel alone."""

    def add_weight(self, shape=None, initializer=None, *args, **kwargs) -> Any:
        return super().add_weight(shape, first_values(initializer), *args, **kwargs)

    def call(self, inputs, training=None) -> Tensor:
        """Transform `(..., C)` to `(..., units)`."""
        return self.activation(dense(inputs, self.kernel, self.bias))

    def load_own_variables(self, store) -> None:
        super().load_own_variables(self._as_kept(store))


@keras.saving.register_keras_serializable(package="keras_makeavid")
class FeedForward(ShapeKeepingLayer):
    """`Dense(value * gelu(gate))`, four times as wide inside (Shazeer, 2020).

    The GELU is `"tanh"`, as the published video weights were trained, or `"exact"`, as
    in Stable Diffusion (docs/model.md, Traps). Any other is a `ValueError`.

    Example:
    ```python
    FeedForward(64)(keras.random.normal((2, 10, 64))).shape  # (2, 10, 64)
    ```
    """

    def __init__(self, width: int, gelu: str = "tanh", **kwargs):
        super().__init__(**kwargs)
        check_choice("gelu", gelu, GELU_APPROXIMATIONS)
        self.width = width
        self.gelu = gelu
        self.proj_in = self.part(Dense, "proj_in", 2 * _EXPANSION * width)
        self.proj_out = self.part(Dense, "proj_out", width)

    def build(self, input_shape) -> None:
        self.proj_in.build(input_shape)
        self.proj_out.build((*input_shape[:-1], _EXPANSION * self.width))

    def call(self, inputs) -> Tensor:
        """Transform `(..., width)`; the shape stays."""
        approximate = GELU_APPROXIMATIONS[self.gelu]
        return self.proj_out(gated_gelu(self.proj_in(inputs), approximate))
