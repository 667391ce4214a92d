"""Attention within a frame, to the text and between frames, and the transformer."""

from typing import Any

import keras
from keras import ops

from keras_makeavid.layers.convolution import SpatialConv
from keras_makeavid.layers.dense import Dense, FeedForward
from keras_makeavid.layers.layer import ShapeKeepingLayer
from keras_makeavid.layers.normalization import GroupNormalization, LayerNormalization
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
        width: Width of the queries and of the output, a multiple of `num_heads`; any
            other is a `ValueError`.
        num_heads: Number of heads. In diffusers' configurations of Stable Diffusion 1.x
            this number is called `attention_head_dim`.
        output_initializer: Initializer of the output projection.

    Example:
    ```python
    layer = Attention(width=64, num_heads=8)
    tokens, text = keras.random.normal((2, 10, 64)), keras.random.normal((2, 77, 768))
    layer(tokens, text)  # cross-attention, (2, 10, 64); self-attention without text
    layer(tokens, layer.project(text))  # the same, of keys and values made once a video
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
        heads = self.num_heads, self.width // self.num_heads
        return ops.reshape(x, (*ops.shape(x)[:-1], *heads))

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.output_initializer)
        return {**super().get_config(), "output_initializer": initializer}


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TemporalAttention(Attention):
    """Self-attention over frames at each pixel.

    There is no position embedding: order in time comes from the temporal convolutions.
    The output starts at zero, so that an inflated model starts as the image model that
    it came from (docs/model.md, Inflation). Arguments are those of `Attention`.

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


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TransformerBlock(ShapeKeepingLayer):
    """Spatial, text and temporal attention and a feed-forward, all pre-normed.

    In this order (docs/model.md, UNet): self-attention within a frame, cross-attention
    to the text, self-attention over frames (whose output starts at zero), GEGLU.

    Args:
        width: Width of the tokens.
        num_heads: Number of heads of all three attentions.
        gelu: `"tanh"` or `"exact"`.
        temporal: Whether there is an attention over frames.

    Example:
    ```python
    block = TransformerBlock(64, num_heads=8)
    text = block.project_context(keras.random.normal((1, 77, 768)))
    block(keras.random.normal((1, 8, 100, 64)), text).shape  # (1, 8, 100, 64)
    ```
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        gelu: str = "tanh",
        temporal: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.num_heads = num_heads
        self.gelu = gelu
        self.temporal = temporal
        self.rematerialise_feed_forward = False
        part = self.part
        self.norm1 = part(LayerNormalization, "norm1")
        heads = width, num_heads
        self.attn1 = part(Attention, "attn1", *heads)
        self.norm2 = part(LayerNormalization, "norm2")
        self.attn2 = part(Attention, "attn2", *heads)
        if temporal:
            self.norm_temporal = part(LayerNormalization, "norm_temporal")
            self.attn_temporal = part(TemporalAttention, "attn_temporal", *heads)
        self.norm3 = part(LayerNormalization, "norm3")
        self.ff = part(FeedForward, "ff", width, gelu)

    def build(self, inputs_shape, context_shape) -> None:
        tokens = (None, None, self.width)
        self.attn2.build(tokens, context_shape)
        self.build_rest(tokens)

    def project_context(self, context) -> Any:
        """Keys and values of the text `(B, L, D)`, or `(B, F, L, D)` for each frame."""
        if not self.built:
            self.build((None, None, None, self.width), ops.shape(context))
        return self.attn2.project(context)

    def call(self, inputs, context, temporal: bool = True) -> Tensor:
        """Transform tokens `(B, F, N, width)`; the shape stays.

        `context` is text `(B, L, D)`, or `(B, F, L, D)` with one for each frame, or
        what `project_context` made of it; `temporal`, whether to attend over frames.
        """
        batch, frames, tokens, width = ops.shape(inputs)
        x = ops.reshape(inputs, (-1, tokens, width))
        x = x + self.attn1(self.norm1(x))
        if not isinstance(context, tuple):
            context = self.project_context(context)
        if len(context[0].shape) == 5:
            context = tuple(ops.reshape(x, (-1, *x.shape[2:])) for x in context)
        else:
            # All frames of a video ask the same text: one set of keys serves them.
            x = ops.reshape(x, (batch, -1, width))
        x = x + self.attn2(self.norm2(x), context)
        x = ops.reshape(x, (batch, -1, width))
        if temporal and self.temporal:
            x = ops.reshape(x, (batch, frames, tokens, width))
            x = x + self.attn_temporal(self.norm_temporal(x))
        feed_forward = self._normed_feed_forward
        if self.rematerialise_feed_forward:
            feed_forward = keras.remat(feed_forward)
        x = x + feed_forward(x)
        return ops.reshape(x, (batch, frames, tokens, width))

    def _normed_feed_forward(self, x):
        return self.ff(self.norm3(x))


@keras.saving.register_keras_serializable(package="keras_makeavid")
class SpatioTemporalTransformer(ShapeKeepingLayer):
    """GroupNorm per frame, 1x1 conv in, a `TransformerBlock`, 1x1 conv out, add.

    Args:
        channels: Number of channels of input and output.
        num_heads: As for `TransformerBlock`, as are `gelu` and `temporal`.
        groups: Groups of the norm.
        epsilon: Epsilon of the group norm: 1e-5 in the published video model, 1e-6 in
            Stable Diffusion 1.5 and in lxj616's video model.

    Example:
    ```python
    layer = SpatioTemporalTransformer(64, num_heads=8)
    text = layer.project_context(keras.random.normal((1, 77, 768)))
    layer(keras.random.normal((1, 8, 16, 16, 64)), text).shape  # (1, 8, 16, 16, 64)
    ```
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        gelu: str = "tanh",
        groups: int = 32,
        epsilon: float = 1e-5,
        temporal: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.num_heads = num_heads
        self.gelu = gelu
        self.groups = groups
        self.epsilon = epsilon
        self.temporal = temporal
        self.norm = self.part(GroupNormalization, "norm", groups, epsilon)
        self.proj_in = self.part(SpatialConv, "proj_in", channels, 1)
        how = (channels, num_heads, gelu, temporal)
        self.transformer_block = self.part(TransformerBlock, "transformer_block", *how)
        self.proj_out = self.part(SpatialConv, "proj_out", channels, 1)

    def build(self, inputs_shape, context_shape) -> None:
        image = (None, None, None, self.channels)
        self.transformer_block.build(image, context_shape)
        self.build_rest(image)

    def project_context(self, context) -> Any:
        """Keys and values of the text `(B, L, D)`, to be computed once a video."""
        if not self.built:
            self.build((None, None, None, self.channels), ops.shape(context))
        return self.transformer_block.project_context(context)

    def call(self, inputs, context) -> Tensor:
        """Transform video `(B, F, H, W, C)` or image `(B, H, W, C)`; the shape stays.

        `context` is text `(B, L, D)`, or what `project_context` made of it. On an image
        the temporal attention is skipped.
        """
        shape = ops.shape(inputs)
        temporal = len(shape) == 5
        frames = shape[1] if temporal else 1
        height, width, channels = shape[-3:]
        x = ops.reshape(inputs, (-1, height, width, channels))
        x = self.proj_in(self.norm(x))
        x = ops.reshape(x, (shape[0], frames, -1, channels))
        x = self.transformer_block(x, context, temporal=temporal)
        x = self.proj_out(ops.reshape(x, (-1, height, width, channels)))
        return inputs + ops.reshape(x, shape)
