"""The UNet's residual block."""

from __future__ import annotations

import keras
from keras import ops

from keras_makeavid.layers.convolution import PseudoConv3D
from keras_makeavid.layers.dense import Dense
from keras_makeavid.layers.layer import Layer
from keras_makeavid.layers.normalization import GroupNormalization
from keras_makeavid.layers.operations.activations import silu
from keras_makeavid.tensor import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_makeavid")
class ResidualBlock(Layer):
    """Norm, SiLU, conv, add time; norm, SiLU, conv; add the input.

    See docs/model.md, UNet. The statistics of both norms run over frames and space,
    unless `norm_per_frame`. The input passes a 1x1 pseudo-3D convolution where the
    width changes.

    Args:
        channels: Number of output channels.
        groups: Groups of the norms.
        epsilon: Epsilon of the norms.
        temporal: Whether the convolutions have temporal parts.
        norm_per_frame: Whether each frame has statistics of its own.

    Example:
    ```python
    block = ResidualBlock(64)
    video = keras.random.normal((2, 8, 16, 16, 32))
    block(video, keras.random.normal((2, 128))).shape  # (2, 8, 16, 16, 64)
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
        widened = (*inputs_shape[:-1], self.channels)
        self.norm1.build(inputs_shape)
        self.conv1.build(inputs_shape)
        self.time_emb_proj.build(time_embedding_shape)
        self.norm2.build(widened)
        self.conv2.build(widened)
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
