"""Pseudo-3D convolution and attention layers, channels-last, on any backend."""

from keras_makeavid.layers.blocks import (
    Downsample,
    ResidualBlock,
    TimestepEmbedding,
    Upsample,
    sinusoidal_embedding,
)
from keras_makeavid.layers.convolution import (
    PseudoConv3D,
    SpatialConv,
    TemporalConv,
    TemporalIdentity,
)
from keras_makeavid.layers.dense import FeedForward
from keras_makeavid.layers.motion_module import FramePositions, MotionModule
from keras_makeavid.layers.normalization import GroupNormalization, LayerNormalization
from keras_makeavid.layers.transformer import (
    Attention,
    SpatioTemporalTransformer,
    TemporalAttention,
    TransformerBlock,
)

__all__ = [
    "Attention",
    "Downsample",
    "FeedForward",
    "FramePositions",
    "GroupNormalization",
    "LayerNormalization",
    "MotionModule",
    "PseudoConv3D",
    "ResidualBlock",
    "SpatialConv",
    "SpatioTemporalTransformer",
    "TemporalAttention",
    "TemporalConv",
    "TemporalIdentity",
    "TimestepEmbedding",
    "TransformerBlock",
    "Upsample",
    "sinusoidal_embedding",
]
