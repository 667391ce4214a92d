"""AnimateDiff's motion module: all that an image UNet lacks of time, in one layer."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.layers.dense import Dense, FeedForward
from keras_makeavid.layers.layer import ShapeKeepingLayer
from keras_makeavid.layers.normalization import GroupNormalization, LayerNormalization
from keras_makeavid.layers.transformer import TemporalAttention
from keras_makeavid.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_makeavid")
class FramePositions(ShapeKeepingLayer):
    """Adds to each frame's tokens a vector of the frame's number.

    It is a table of sines and cosines (Vaswani et al., arXiv 1706.03762, section 3.5),
    which does not train. Files of motion modules hold it, and what they hold is used.
    More frames than `length` stretch it, if `interpolate`, or are a `ValueError`.

    Example:
    ```python
    FramePositions(24)(keras.ops.zeros((1, 16, 100, 64))).shape  # (1, 16, 100, 64)
    ```
    """

    def __init__(self, length: int, interpolate: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.length = length
        self.interpolate = interpolate

    def build(self, input_shape) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.length, input_shape[-1]),
            initializer=lambda shape, dtype: ops.cast(sinusoids(*shape), dtype),
            trainable=False,
        )

    def call(self, inputs: Tensor) -> Tensor:
        """Add the frames' vectors to tokens `(B, F, N, C)`; the shape stays."""
        frames = inputs.shape[1]
        check_frames(frames, self.length, self.interpolate)
        table = ops.convert_to_tensor(self.embeddings)
        if frames is not None and frames > self.length:
            stretch = ops.cast(_stretch(self.length, frames), table.dtype)
            table = ops.matmul(stretch, table)
        return inputs + table[: ops.shape(inputs)[1], None]


@keras.saving.register_keras_serializable(package="keras_makeavid")
class MotionModule(ShapeKeepingLayer):
    """Self-attention over the frames of each pixel, twice, and a feed-forward.

    GroupNorm, Dense in; twice LayerNorm, add positions, self-attention over frames, add
    back; LayerNorm, GEGLU, add back; Dense out; add the input (AnimateDiff, arXiv
    2307.04725, section 4.2; docs/animatediff.md). Dense out starts at zero.

    Args:
        channels: Number of channels of input and output.
        num_heads: Number of attention heads.
        positions: Number of frames in the table of positions; more are a `ValueError`.
        groups: Groups of the group norm.
        norm_over_frames: Whether the group norm's statistics run over all frames, as in
            diffusers, or, as the published weights were trained, of each frame.
        interpolate: Whether more frames than `positions` stretch the table.

    Example:
    ```python
    layer = MotionModule(64, num_heads=8)
    layer(keras.random.normal((1, 16, 8, 8, 64))).shape  # (1, 16, 8, 8, 64)
    ```
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        positions: int = 32,
        groups: int = 32,
        norm_over_frames: bool = False,
        interpolate: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.num_heads = num_heads
        self.positions = positions
        self.groups = groups
        self.norm_over_frames = norm_over_frames
        self.interpolate = interpolate
        part = self.part
        self.norm = part(
            GroupNormalization, "norm", groups, 1e-6, per_frame=not norm_over_frames
        )
        self.proj_in = part(Dense, "proj_in", channels)
        # Each attention has a table of its own, as in the files of AnimateDiff.
        attention = (channels, num_heads, "glorot_uniform")
        table = (positions, interpolate)
        self.norm1 = part(LayerNormalization, "norm1")
        self.positions1 = part(FramePositions, "positions1", *table)
        self.attn1 = part(TemporalAttention, "attn1", *attention)
        self.norm2 = part(LayerNormalization, "norm2")
        self.positions2 = part(FramePositions, "positions2", *table)
        self.attn2 = part(TemporalAttention, "attn2", *attention)
        self.norm3 = part(LayerNormalization, "norm3")
        self.ff = part(FeedForward, "ff", channels, "exact")
        self.proj_out = part(Dense, "proj_out", channels, kernel_initializer="zeros")

    def build(self, input_shape) -> None:
        self.build_rest((None, None, None, self.channels))

    def call(self, inputs: Tensor) -> Tensor:
        """Let the frames of a video `(B, F, H, W, C)` meet; the shape stays."""
        shape = ops.shape(inputs)
        x = ops.reshape(self.norm(inputs), (*shape[:2], -1, self.channels))
        x = self.proj_in(x)
        x = x + self.attn1(self.positions1(self.norm1(x)))
        x = x + self.attn2(self.positions2(self.norm2(x)))
        x = x + self.ff(self.norm3(x))
        return inputs + ops.reshape(self.proj_out(x), shape)


def check_frames(frames: int | None, positions: int, interpolate: bool) -> None:
    """Refuse more frames than there are positions, unless these are interpolated."""
    if frames is not None and frames > positions and not interpolate:
        raise ValueError(
            f"The motion modules know positions of {positions} frames: make at most as "
            "many, or set motion_interpolate=True. "
            f"Received: {frames} frames"
        )


def sinusoids(length: int, width: int) -> np.ndarray:
    """Sine and cosine by turns, `(length, width)` float32."""
    frequencies = 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.arange(length)[:, None] * frequencies
    table = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return table.reshape(length, -1)[:, :width].astype("float32")


def _stretch(length: int, frames: int) -> np.ndarray:
    """Matrix `(frames, length)` that spreads a table linearly over more frames."""
    places = np.linspace(0, length - 1, frames)[:, None]
    distances = np.abs(places - np.arange(length))
    return np.maximum(1.0 - distances, 0.0).astype("float32")
