"""Attention between the frames of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_makeavid.devices import is_shared_equally, platform, shard_mapped
from keras_makeavid.tensor import Tensor


def has_attention_over_frames(shape: Sequence[Any], heads: int) -> bool:
    """Tell whether `attention_over_frames` serves tokens of shape `(B, F, N, C)` here.

    Only TPUs have one. Elsewhere a transpose and `attention` are as fast: on a TPU they
    would copy the video into another layout and back.
    """
    if keras.config.backend() != "jax" or platform() != "tpu":
        return False
    from keras_makeavid.layers.operations import pallas_attention_over_frames

    batch, frames, pixels, channels = shape
    if not is_shared_equally(batch, frames, pixels):
        return False
    size = pallas_attention_over_frames.pixels_per_program(
        frames, channels // heads, pixels
    )
    return size is not None


def attention_over_frames(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Let each pixel's frames attend to one another, staying where they are.

    Query, key, value and result are `(B, F, N, heads, D)`.
    """
    from keras_makeavid.layers.operations import pallas_attention_over_frames

    heads, width = query.shape[-2:]

    def pixels_last(x):
        x = ops.reshape(x, (*x.shape[:3], heads * width))
        return ops.transpose(x, (0, 1, 3, 2))

    def attend(*arrays):
        return pallas_attention_over_frames.attention_over_frames(*arrays, heads)

    outputs = shard_mapped(attend, *map(pixels_last, (query, key, value)))
    return ops.reshape(ops.transpose(outputs, (0, 1, 3, 2)), query.shape)
