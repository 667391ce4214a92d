"""The down- and upsamplers between the levels of the UNet."""

from __future__ import annotations

import keras
from keras import ops

from keras_makeavid.layers.convolution import PseudoConv3D
from keras_makeavid.layers.layer import Layer
from keras_makeavid.tensor import Shape, Tensor


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

    Args:
        channels: Number of output channels.
        temporal: Whether the convolution has a temporal part.

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

    Args:
        channels: Number of output channels.
        temporal: Whether the convolution has a temporal part.

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
