"""GEGLU feed-forward."""

from __future__ import annotations

from typing import Any

import keras

from keras_makeavid.layers.dense import Dense
from keras_makeavid.layers.operations.gated_gelu import gated_gelu
from keras_makeavid.tensor import Shape, Tensor

GELU_APPROXIMATIONS = {"exact": False, "tanh": True}


@keras.saving.register_keras_serializable(package="keras_makeavid")
class FeedForward(keras.layers.Layer):
    """`Dense(value * gelu(gate))`, four times as wide inside (Shazeer, 2020).

    Args:
        width: Width of input and output.
        gelu: `"tanh"`, as the published video weights were trained, or `"exact"`,
            as in Stable Diffusion (docs/model.md, Traps).
        expansion: Inner width over `width`.

    Example:
    ```python
    FeedForward(64)(keras.random.normal((2, 10, 64))).shape  # (2, 10, 64)
    ```
    """

    def __init__(self, width: int, gelu: str = "tanh", expansion: int = 4, **kwargs):
        super().__init__(**kwargs)
        if gelu not in GELU_APPROXIMATIONS:
            raise ValueError(
                f"gelu must be one of {sorted(GELU_APPROXIMATIONS)}. Received: {gelu!r}"
            )
        self.width = width
        self.gelu = gelu
        self.expansion = expansion
        inner = width * expansion
        self.proj_in = Dense(2 * inner, dtype=self.dtype_policy, name="proj_in")
        self.proj_out = Dense(width, dtype=self.dtype_policy, name="proj_out")

    def build(self, input_shape) -> None:
        self.proj_in.build(input_shape)
        self.proj_out.build((*input_shape[:-1], self.width * self.expansion))

    def call(self, inputs) -> Tensor:
        """Transform `(..., width)`; the shape stays."""
        approximate = GELU_APPROXIMATIONS[self.gelu]
        return self.proj_out(gated_gelu(self.proj_in(inputs), approximate))

    def compute_output_shape(self, input_shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "gelu": self.gelu,
            "expansion": self.expansion,
        }
