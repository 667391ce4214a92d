"""Multi-head attention: within a frame, to the text, and between frames."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_makeavid.layers.dense import Dense
from keras_makeavid.layers.layer import ShapeKeepingLayer
from keras_makeavid.layers.operations.attention import (
    attention,
    attention_over_frames,
    has_attention_over_frames,
)
from keras_makeavid.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_makeavid")
class Attention(ShapeKeepingLayer):
    """Multi-head attention, q, k and v without bias, the output with one.

    The keys and values of the text can be computed ahead (docs/model.md, UNet).

    Args:
        width: Width of the queries and of the output, a multiple of `num_heads`.
        num_heads: Number of heads. In diffusers' configurations of Stable Diffusion
            1.x this number is called `attention_head_dim`.
        output_initializer: Initializer of the output projection.

    Example:
    ```python
    layer = Attention(width=64, num_heads=8)
    tokens, text = keras.random.normal((2, 10, 64)), keras.random.normal((2, 77, 768))
    layer(tokens)  # self-attention, (2, 10, 64)

    layer = Attention(width=64, num_heads=8)
    layer(tokens, text)  # cross-attention, (2, 10, 64)
    key_value = layer.project(text)  # once a video
    layer(tokens, key_value)  # the same
    ```
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        output_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if width % num_heads:
            raise ValueError(
                "Attention: width must be a multiple of num_heads. "
                f"Received: width={width}, num_heads={num_heads}"
            )
        self.width = width
        self.num_heads = num_heads
        self.output_initializer = keras.initializers.get(output_initializer)

        self.to_q = self.part(Dense, "to_q", width, use_bias=False)
        self.to_k = self.part(Dense, "to_k", width, use_bias=False)
        self.to_v = self.part(Dense, "to_v", width, use_bias=False)
        self.to_out = self.part(
            Dense, "to_out", width, kernel_initializer=self.output_initializer
        )

    def build(self, inputs_shape, context_shape=None) -> None:
        context_shape = context_shape or inputs_shape
        self.to_q.build(inputs_shape)
        self.to_k.build(context_shape)
        self.to_v.build(context_shape)
        self.to_out.build(inputs_shape)

    def project(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Make keys and values `(B, S, heads, width / heads)` of `(B, S, D)`."""
        if not self.built:
            self.build((None, None, self.width), ops.shape(context))
        return self._heads(self.to_k(context)), self._heads(self.to_v(context))

    def call(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Attend from tokens `(B, T, width)` to a context; their shape stays.

        It is `(B, S, D)`, or what `project` made of it; `None` for self-attention.
        """
        if context is None:
            context = inputs
        if not isinstance(context, tuple):
            context = self.project(context)
        key, value = context
        outputs = attention(self._heads(self.to_q(inputs)), key, value)
        return self.to_out(ops.reshape(outputs, ops.shape(inputs)))

    def _heads(self, x: Tensor) -> Tensor:
        shape = ops.shape(x)
        return ops.reshape(
            x, (*shape[:-1], self.num_heads, self.width // self.num_heads)
        )

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.output_initializer)
        return {**super().get_config(), "output_initializer": initializer}


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TemporalAttention(Attention):
    """Self-attention over frames at each pixel.

    There is no position embedding: order in time comes from the temporal convolutions.
    The output starts at zero, so that an inflated model starts as the image model that
    it came from (docs/model.md, Inflation).

    Args:
        width: Width of the tokens, a multiple of `num_heads`.
        num_heads: Number of heads.
        output_initializer: Initializer of the output projection.

    Example:
    ```python
    layer = TemporalAttention(width=64, num_heads=8)
    layer(keras.random.normal((2, 24, 100, 64))).shape  # (2, 24, 100, 64)
    ```
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        output_initializer: str | keras.initializers.Initializer = "zeros",
        **kwargs: Any,
    ):
        super().__init__(width, num_heads, output_initializer, **kwargs)

    # There is no context between frames.
    def build(self, inputs_shape) -> None:  # type: ignore[override]
        super().build(inputs_shape)

    def call(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        """Let the frames of tokens `(B, F, N, width)` meet; the shape stays."""
        if has_attention_over_frames(inputs.shape, self.num_heads):
            query = self._heads(self.to_q(inputs))
            outputs = attention_over_frames(query, *self.project(inputs))
            return self.to_out(ops.reshape(outputs, ops.shape(inputs)))
        batch, frames, tokens, width = ops.shape(inputs)
        x = ops.reshape(ops.transpose(inputs, (0, 2, 1, 3)), (-1, frames, width))
        x = ops.reshape(super().call(x), (batch, tokens, frames, width))
        return ops.transpose(x, (0, 2, 1, 3))
