"""The levels of the UNet: residual blocks, transformers, a down- or upsampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_makeavid.layers.motion_module import MotionModule
from keras_makeavid.layers.resampling import Downsample, Upsample
from keras_makeavid.layers.residual_block import ResidualBlock
from keras_makeavid.layers.transformer import SpatioTemporalTransformer
from keras_makeavid.tensor import Tensor


class UNetBlock(keras.layers.Layer):
    """What down, middle and up blocks share: their parts, and the text.

    `motion` are the arguments of a `MotionModule` behind each transformer, or behind
    each residual block that has none, and `None` where there is no such module.
    """

    def __init__(
        self,
        channels: int,
        num_layers: int,
        num_transformers: int,
        num_heads: int,
        gelu: str,
        groups: int,
        epsilon: float,
        transformer_epsilon: float,
        temporal: bool,
        norm_per_frame: bool,
        motion: Mapping[str, Any] | None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.channels = channels
        self.temporal = temporal
        self.rematerialise = False
        self.resnets = [
            ResidualBlock(
                channels,
                groups,
                epsilon,
                temporal,
                norm_per_frame,
                dtype=policy,
                name=f"resnets_{i}",
            )
            for i in range(num_layers)
        ]
        self.attentions = [
            SpatioTemporalTransformer(
                channels,
                num_heads,
                gelu,
                groups,
                transformer_epsilon,
                temporal,
                dtype=policy,
                name=f"attentions_{i}",
            )
            for i in range(num_transformers)
        ]
        num_modules = 0 if motion is None else (num_transformers or num_layers)
        # What is temporal has it in its path, by which training and files tell.
        self.temporal_modules = [
            MotionModule(
                channels,
                groups=groups,
                **(motion or {}),
                dtype=policy,
                name=f"temporal_modules_{i}",
            )
            for i in range(num_modules)
        ]

    def build_parts(self, widths, time_width, context_shape) -> None:
        """Create the weights of residual blocks of so wide inputs, and transformers."""
        for resnet, width in zip(self.resnets, widths, strict=True):
            resnet.build((None, None, None, width), (None, time_width))
        for attention in self.attentions:
            attention.build((None, None, None, self.channels), context_shape)
        for module in self.temporal_modules:
            module.build((None, None, None, None, self.channels))
        self.built = True

    def run(self, part, *inputs) -> Tensor:
        """Call a part; with `rematerialise`, for gradients that compute it again."""
        return keras.remat(part)(*inputs) if self.rematerialise else part(*inputs)

    def attend(self, i, x, text) -> Tensor:
        """Pass the transformer and the motion module behind residual block `i`."""
        if self.attentions:
            x = self.run(self.attentions[i], x, text[i])
        # Images pass no motion modules.
        if self.temporal_modules and len(x.shape) == 5:
            x = self.run(self.temporal_modules[i], x)
        return x

    def project_context(self, context) -> list[Any]:
        """Keys and values of the text for each transformer of this block."""
        return [attention.project_context(context) for attention in self.attentions]


class DownBlock(UNetBlock):
    """Residual blocks, each with a transformer or none, then a downsampler or none."""

    def __init__(self, downsample: bool, **kwargs):
        super().__init__(**kwargs)
        self.downsampler = None
        if downsample:
            self.downsampler = Downsample(
                self.channels,
                self.temporal,
                dtype=self.dtype_policy,
                name="downsamplers_0",
            )

    def build(self, input_channels, time_width, context_shape) -> None:
        widths = [input_channels, *[self.channels] * (len(self.resnets) - 1)]
        self.build_parts(widths, time_width, context_shape)
        if self.downsampler is not None:
            self.downsampler.build((None, None, None, self.channels))

    def call(self, x, time_embedding, text) -> tuple[Tensor, list[Tensor]]:
        """Return the output and every intermediate that the up path will want."""
        skips = []
        for i, resnet in enumerate(self.resnets):
            x = self.attend(i, self.run(resnet, x, time_embedding), text)
            skips.append(x)
        if self.downsampler is not None:
            x = self.downsampler(x)
            skips.append(x)
        return x, skips


class MidBlock(UNetBlock):
    """Residual block, transformer, a motion module or none, residual block."""

    def build(self, time_width, context_shape) -> None:
        widths = [self.channels] * len(self.resnets)
        self.build_parts(widths, time_width, context_shape)

    def call(self, x, time_embedding, text) -> Tensor:
        """`(B, F, H, W, C)` or `(B, H, W, C)`; the shape stays."""
        first, second = self.resnets
        x = self.attend(0, self.run(first, x, time_embedding), text)
        return self.run(second, x, time_embedding)


class UpBlock(UNetBlock):
    """Residual blocks fed with skips, each with a transformer or none; an upsampler."""

    def __init__(self, upsample: bool, **kwargs):
        super().__init__(**kwargs)
        self.upsampler = None
        if upsample:
            self.upsampler = Upsample(
                self.channels,
                self.temporal,
                dtype=self.dtype_policy,
                name="upsamplers_0",
            )

    def build(self, input_channels, skip_channels, time_width, context_shape) -> None:
        widths = [input_channels, *[self.channels] * (len(self.resnets) - 1)]
        widths = [
            width + skip for width, skip in zip(widths, skip_channels, strict=True)
        ]
        self.build_parts(widths, time_width, context_shape)
        if self.upsampler is not None:
            self.upsampler.build((None, None, None, self.channels))

    def call(self, x, skips, time_embedding, text) -> Tensor:
        """Consume `skips` of the size of `x`, one for each residual block, in order."""
        for i, (resnet, skip) in enumerate(zip(self.resnets, skips, strict=True)):
            x = ops.concatenate([x, skip], axis=-1)
            x = self.attend(i, self.run(resnet, x, time_embedding), text)
        return x if self.upsampler is None else self.upsampler(x)
