"""The UNet's parts without attention: timestep embedding, residual block, samplers."""

import math

import keras
import numpy as np
from keras import ops

from keras_makeavid.layers.convolution import PseudoConv3D
from keras_makeavid.layers.dense import Dense
from keras_makeavid.layers.layer import Layer
from keras_makeavid.layers.normalization import GroupNormalization
from keras_makeavid.layers.operations.activations import silu
from keras_makeavid.tensor import Shape, Tensor


def sinusoidal_embedding(timesteps, width: int) -> Tensor:
    """Sinusoids of timesteps `(B,)`, cosine half first, float32 `(B, width)`.

    The frequencies are `10000^(-i / (width / 2))`, the width even, the shift 0
    (docs/model.md, UNet; `flip_sin_to_cos` in diffusers).

    Example:
    ```python
    sinusoidal_embedding(keras.ops.array([0, 500]), 320).shape  # (2, 320)
    ```
    """
    half = width // 2
    exponents = np.float32(-math.log(10000.0)) * np.arange(half, dtype="float32")
    # Backends' exponentials differ in the last digit, which timesteps multiply.
    frequencies = np.exp((exponents / np.float32(half)).astype("float64"))
    frequencies = ops.convert_to_tensor(frequencies.astype("float32"))
    angles = ops.cast(timesteps, "float32")[:, None] * frequencies[None]
    return ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TimestepEmbedding(Layer):
    """An even `sinusoid_width` of sinusoids, Dense of `width`, SiLU, Dense.

    Timesteps are never cast to half precision: bfloat16 cannot tell 999 from 1000.

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


@keras.saving.register_keras_serializable(package="keras_makeavid")
class ResidualBlock(Layer):
    """Norm, SiLU, conv, add time; norm, SiLU, conv; add the input.

    See docs/model.md, UNet. The statistics of both norms run over frames and space,
    unless `norm_per_frame`. A new width has the input pass a 1x1 convolution.

    Args:
        channels: Number of output channels.
        groups: Groups of the norms.
        epsilon: Epsilon of the norms.
        temporal: Whether the convolutions have temporal parts.
        norm_per_frame: Whether each frame has statistics of its own.

    Example:
    ```python
    block, time = ResidualBlock(64), keras.random.normal((2, 128))
    block(keras.random.normal((2, 8, 16, 16, 32)), time).shape  # (2, 8, 16, 16, 64)
    ```
    """

    def __init__(
        self,
        channels: int,
        groups: int = 32,
        epsilon: float = 1e-5,
        temporal: bool = True,
        norm_per_frame: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.groups = groups
        self.epsilon = epsilon
        self.temporal = temporal
        self.norm_per_frame = norm_per_frame
        norm = (groups, epsilon, True, norm_per_frame)
        self.norm1 = self.part(GroupNormalization, "norm1", *norm)
        self.conv1 = self.part(PseudoConv3D, "conv1", channels, temporal=temporal)
        self.time_emb_proj = self.part(Dense, "time_emb_proj", channels)
        self.norm2 = self.part(GroupNormalization, "norm2", *norm)
        self.conv2 = self.part(PseudoConv3D, "conv2", channels, temporal=temporal)
        self.conv_shortcut: PseudoConv3D | None = None

    def build(self, inputs_shape, time_embedding_shape) -> None:
        self.norm1.build(inputs_shape)
        self.conv1.build(inputs_shape)
        self.time_emb_proj.build(time_embedding_shape)
        self.build_rest((*inputs_shape[:-1], self.channels))
        if inputs_shape[-1] != self.channels:
            self.conv_shortcut = self.part(
                PseudoConv3D, "conv_shortcut", self.channels, 1, temporal=self.temporal
            )
            self.conv_shortcut.build(inputs_shape)

    def call(self, inputs, time_embedding) -> Tensor:
        """Transform video `(B, F, H, W, C)` or image `(B, H, W, C)` to `channels`.

        `time_embedding` is `(B, T)`, the same for all frames.
        """
        x = self.conv1(self.norm1(inputs))
        shift = self.time_emb_proj(silu(time_embedding))
        x = x + ops.reshape(shift, (-1, *[1] * (len(x.shape) - 2), self.channels))
        x = self.conv2(self.norm2(x))
        if self.conv_shortcut is not None:
            inputs = self.conv_shortcut(inputs)
        return inputs + x

    def compute_output_shape(self, inputs_shape, time_embedding_shape) -> Shape:
        return (*inputs_shape[:-1], self.channels)


class _Resampling(Layer):
    """A pseudo-3D convolution of 3 x 3, and what its subclass does besides."""

    strides = 1

    def __init__(self, channels: int, temporal: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.temporal = temporal
        self.conv = self.part(
            PseudoConv3D, "conv", channels, strides=self.strides, temporal=temporal
        )

    def build(self, input_shape):
        self.conv.build(input_shape)


@keras.saving.register_keras_serializable(package="keras_makeavid")
class Downsample(_Resampling):
    """Halves height and width by a pseudo-3D convolution of stride 2, padded by 1.

    It makes `channels`, with a `temporal` part or without.

    Example:
    ```python
    Downsample(32)(keras.ops.ones((1, 4, 8, 8, 32))).shape  # (1, 4, 4, 4, 32)
    ```
    """

    strides = 2

    def call(self, inputs) -> Tensor:
        """`(B, F, H, W, C)` or `(B, H, W, C)` to half the height and width."""
        return self.conv(inputs)

    def compute_output_shape(self, input_shape) -> Shape:
        return self.conv.compute_output_shape(input_shape)


@keras.saving.register_keras_serializable(package="keras_makeavid")
class Upsample(_Resampling):
    """Doubles height and width by nearest neighbour, then a pseudo-3D convolution.

    It makes `channels`, with a `temporal` part or without.

    Example:
    ```python
    Upsample(32)(keras.ops.ones((1, 4, 8, 8, 32))).shape  # (1, 4, 16, 16, 32)
    ```
    """

    def call(self, inputs) -> Tensor:
        """`(B, F, H, W, C)` or `(B, H, W, C)` to twice the height and width."""
        return self.conv(double_nearest(inputs))

    def compute_output_shape(self, input_shape) -> Shape:
        *leading, height, width, _ = input_shape
        doubled = (None if n is None else 2 * n for n in (height, width))
        return (*leading, *doubled, self.channels)


def double_nearest(images) -> Tensor:
    """Repeat each pixel of `(..., H, W, C)` two by two."""
    *leading, height, width, channels = ops.shape(images)
    # A broadcast and a reshape: XLA fuses it, where `repeat` is a gather.
    x = ops.reshape(images, (-1, height, 1, width, 1, channels))
    x = ops.broadcast_to(x, (ops.shape(x)[0], height, 2, width, 2, channels))
    return ops.reshape(x, (*leading, 2 * height, 2 * width, channels))
