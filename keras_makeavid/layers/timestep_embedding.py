"""Sinusoidal timestep embedding and the two dense layers behind it."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from keras_makeavid.layers.dense import Dense
from keras_makeavid.layers.layer import Layer
from keras_makeavid.tensor import Shape, Tensor


def sinusoidal_embedding(timesteps, width: int) -> Tensor:
    """Sinusoids of the timesteps, cosine half first, in float32.

    The frequencies are `10000^(-i / (width / 2))`, the shift is 0
    (docs/model.md, UNet; `flip_sin_to_cos` in diffusers).

    Args:
        timesteps: `(B,)`, integer or float.
        width: Even width of the embedding.

    Returns:
        `(B, width)` float32.

    Example:
    ```python
    sinusoidal_embedding(keras.ops.array([0, 500]), 320).shape  # (2, 320)
    ```
    """
    half = width // 2
    exponents = np.float32(-math.log(10000.0)) * np.arange(half, dtype="float32")
    # Backends' exponentials differ in the last digit, which timesteps make a thousand
    # times as large.
    frequencies = np.exp((exponents / np.float32(half)).astype("float64"))
    frequencies = ops.convert_to_tensor(frequencies.astype("float32"))
    angles = ops.cast(timesteps, "float32")[:, None] * frequencies[None]
    return ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TimestepEmbedding(Layer):
    """Sinusoid, Dense, SiLU, Dense.

    Timesteps are never cast to half precision: bfloat16 cannot tell 999 from
    1000.

    Args:
        sinusoid_width: Even width of the sinusoid.
        width: Width of the embedding.

    Example:
    ```python
    TimestepEmbedding(320, 1280)(keras.ops.array([10, 999])).shape  # (2, 1280)
    ```
    """

    def __init__(self, sinusoid_width: int, width: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.sinusoid_width = sinusoid_width
        self.width = width
        self.linear_1 = self.part(Dense, "linear_1", width, activation="silu")
        self.linear_2 = self.part(Dense, "linear_2", width)

    def build(self, input_shape) -> None:
        self.linear_1.build((None, self.sinusoid_width))
        self.linear_2.build((None, self.width))

    def call(self, timesteps) -> Tensor:
        """Embed timesteps `(B,)` as `(B, width)`."""
        embedding = sinusoidal_embedding(timesteps, self.sinusoid_width)
        return self.linear_2(self.linear_1(embedding))

    def compute_output_shape(self, input_shape) -> Shape:
        return (input_shape[0], self.width)
