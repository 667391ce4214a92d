"""GEGLU feed-forward."""

from __future__ import annotations

import keras

from keras_makeavid.layers.dense import Dense
from keras_makeavid.layers.layer import ShapeKeepingLayer
from keras_makeavid.layers.operations.gated_gelu import gated_gelu
from keras_makeavid.tensor import Tensor

GELU_APPROXIMATIONS = {"exact": False, "tanh": True}


@keras.saving.register_keras_serializable(package="keras_makeavid")
class FeedForward(ShapeKeepingLayer):
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
        self.proj_in = self.part(Dense, "proj_in", 2 * inner)
        self.proj_out = self.part(Dense, "proj_out", width)

    def build(self, input_shape) -> None:
        self.proj_in.build(input_shape)
        self.proj_out.build((*input_shape[:-1], self.width * self.expansion))

    def call(self, inputs) -> Tensor:
        """Transform `(..., width)`; the shape stays."""
        approximate = GELU_APPROXIMATIONS[self.gelu]
        return self.proj_out(gated_gelu(self.proj_in(inputs), approximate))
