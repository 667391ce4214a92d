"""The inflated inpainting UNet as one layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_makeavid.layers.convolution import PseudoConv3D
from keras_makeavid.layers.normalization import GroupNormalization
from keras_makeavid.layers.shapes import check_shape
from keras_makeavid.layers.timestep_embedding import TimestepEmbedding
from keras_makeavid.layers.unet_blocks import DownBlock, MidBlock, UpBlock
from keras_makeavid.tensor import Shape, Tensor


class UNet(keras.layers.Layer):
    """The network of `keras_makeavid.models.UNetPseudo3D`, which documents it.

    KerasHub's `Backbone` is a functional model, traced for one form of inputs. A layer
    of its own also takes images and projected text.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_channels: tuple[int, ...],
        layers_per_block: int,
        num_heads: tuple[int, ...],
        context_dim: int,
        attention_levels: tuple[bool, ...],
        gelu: str,
        groups: int,
        epsilon: float,
        transformer_epsilon: float,
        temporal: bool,
        motion: Mapping[str, Any] | None = None,
        motion_mid_block: bool = False,
        norm_per_frame: bool = False,
        **kwargs,
    ):
        # Timesteps must stay exact in half precision; `call` casts what may be.
        super().__init__(autocast=False, **kwargs)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.block_channels = block_channels
        self.layers_per_block = layers_per_block
        self.context_dim = context_dim
        self.is_video = temporal or motion is not None
        self.time_width = 4 * block_channels[0]

        last = len(block_channels) - 1
        policy = self.dtype_policy

        def block(
            kind, level, num_layers, num_transformers, name, motion=motion, **extra
        ):
            return kind(
                channels=block_channels[level],
                num_layers=num_layers,
                num_transformers=num_transformers,
                num_heads=num_heads[level],
                gelu=gelu,
                groups=groups,
                epsilon=epsilon,
                transformer_epsilon=transformer_epsilon,
                temporal=temporal,
                norm_per_frame=norm_per_frame,
                motion=motion,
                dtype=policy,
                name=name,
                **extra,
            )

        self.conv_in = PseudoConv3D(
            block_channels[0], temporal=temporal, dtype=policy, name="conv_in"
        )
        self.time_embedding = TimestepEmbedding(
            block_channels[0], self.time_width, dtype=policy, name="time_embedding"
        )
        self.down_blocks = [
            block(
                DownBlock,
                level,
                layers_per_block,
                layers_per_block if attention_levels[level] else 0,
                f"down_blocks_{level}",
                downsample=level < last,
            )
            for level in range(last + 1)
        ]
        mid_motion = motion if motion_mid_block else None
        self.mid_block = block(MidBlock, last, 2, 1, "mid_block", mid_motion)
        self.up_blocks = [
            block(
                UpBlock,
                level,
                layers_per_block + 1,
                layers_per_block + 1 if attention_levels[level] else 0,
                f"up_blocks_{last - level}",
                upsample=level > 0,
            )
            for level in reversed(range(last + 1))
        ]
        self.conv_norm_out = GroupNormalization(
            groups, epsilon, True, norm_per_frame, dtype=policy, name="conv_norm_out"
        )
        self.conv_out = PseudoConv3D(
            out_channels, temporal=temporal, dtype=policy, name="conv_out"
        )

    def build(self, input_shape=None) -> None:
        """Create every weight; all shapes follow from the configuration."""
        channels = self.block_channels
        context_shape = (None, None, self.context_dim)
        self.conv_in.build((None, None, None, self.in_channels))
        self.time_embedding.build((None,))
        width, skips = channels[0], [channels[0]]
        for block in self.down_blocks:
            block.build(width, self.time_width, context_shape)
            width = block.channels
            skips += [width] * (self.layers_per_block + (block.downsampler is not None))
        self.mid_block.build(self.time_width, context_shape)
        for block in self.up_blocks:
            block_skips = [skips.pop() for _ in block.resnets]
            block.build(width, block_skips, self.time_width, context_shape)
            width = block.channels
        self.conv_norm_out.build((None, None, None, width))
        self.conv_out.build((None, None, None, width))
        self.built = True

    def project_context(self, context) -> dict[str, Any]:
        """Compute the text's keys and values of every transformer, once a video."""
        context = ops.cast(context, self.compute_dtype)
        if context.shape[-1] != self.context_dim:
            raise ValueError(
                f"context must have shape (B, L, {self.context_dim}). "
                f"Received: {tuple(context.shape)}"
            )
        return {
            "down": [block.project_context(context) for block in self.down_blocks],
            "mid": self.mid_block.project_context(context),
            "up": [block.project_context(context) for block in self.up_blocks],
        }

    def call(self, inputs, spatial_only: bool = False) -> Tensor:
        sample, timesteps = inputs["sample"], inputs["timesteps"]
        factor = 2 ** (len(self.block_channels) - 1)
        check_shape("sample", sample.shape, self.in_channels, factor)
        text = inputs["context"]
        if not isinstance(text, dict):
            text = self.project_context(text)
        if (spatial_only or not self.is_video) and len(sample.shape) == 5:
            return self._call_on_frames(sample, timesteps, text)

        embedding = self.time_embedding(timesteps)
        x = self.conv_in(ops.cast(sample, self.compute_dtype))
        skips = [x]
        for block, block_text in zip(self.down_blocks, text["down"], strict=True):
            x, block_skips = block(x, embedding, block_text)
            skips += block_skips
        x = self.mid_block(x, embedding, text["mid"])
        for block, block_text in zip(self.up_blocks, text["up"], strict=True):
            block_skips = [skips.pop() for _ in block.resnets]
            x = block(x, block_skips, embedding, block_text)
        return self.conv_out(self.conv_norm_out(x))

    def _call_on_frames(self, sample, timesteps, text):
        shape = ops.shape(sample)
        frames = shape[1]

        def for_each_frame(x):
            # Text that changes over time has an axis of frames already.
            if len(x.shape) == 5:
                return ops.reshape(x, (-1, *x.shape[2:]))
            return ops.repeat(x, frames, axis=0)

        images = {
            "sample": ops.reshape(sample, (-1, *shape[2:])),
            "timesteps": ops.repeat(timesteps, frames, axis=0),
            "context": keras.tree.map_structure(for_each_frame, text),
        }
        prediction = self.call(images)
        return ops.reshape(prediction, (*shape[:-1], self.out_channels))

    def compute_output_shape(self, input_shape) -> Shape:
        return (*input_shape["sample"][:-1], self.out_channels)
