"""The inflated inpainting UNet as one layer, and the blocks of its levels."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.layers import blocks
from keras_makeavid.layers.convolution import PseudoConv3D
from keras_makeavid.layers.layer import Layer, check_shape
from keras_makeavid.layers.motion_module import MotionModule
from keras_makeavid.layers.normalization import GroupNormalization
from keras_makeavid.layers.transformer import SpatioTemporalTransformer
from keras_makeavid.tensor import Shape, Tensor


def joined(x: Tensor, skip: Tensor, factors: tuple[Any, Any] | None = None) -> Tensor:
    """Concatenate the features `(..., H, W, C)` of the up path and of a skip.

    With factors `(b, s)`, half of the channels of `x` are multiplied by b before, and
    the lowest frequencies of `skip` by s (Si et al., arXiv 2309.11497, in the form of
    diffusers).
    """
    if factors is not None:
        backbone, low = factors
        is_first_half = np.arange(x.shape[-1]) < x.shape[-1] // 2
        x = x * ops.cast(ops.where(is_first_half, backbone, 1.0), x.dtype)
        precise = ops.cast(skip, "float32")
        skip = ops.cast(precise + (low - 1.0) * _lowest(precise), skip.dtype)
    return ops.concatenate([x, skip], axis=-1)


def _lowest(x):
    """The part of frequencies 0 and -1 in height and width, as the FFT counts them.

    These are sums of a few waves: no FFT is needed, which TPUs do slowly.
    """
    height, width = x.shape[-3:-1]
    # A side of one pixel has but one frequency.
    rows, columns = (sorted({0, -1 % size}) for size in (height, width))
    places = np.mgrid[:height, :width].reshape(2, -1)
    phases = [
        2 * np.pi * (row * places[0] / height + column * places[1] / width)
        for row in rows
        for column in columns
    ]
    waves = np.stack([wave(phase) for phase in phases for wave in (np.cos, np.sin)])
    waves = ops.convert_to_tensor(waves.reshape(-1, height, width), "float32")
    sums = ops.einsum("khw,...hwc->...kc", waves, x)
    return ops.einsum("khw,...kc->...hwc", waves, sums) / (height * width)


@dataclasses.dataclass(frozen=True)
class UNetDesign:
    """How a UNet is made, as `UNetPseudo3D` documents it; `num_heads` of each level.

    `motion` are the arguments of the `MotionModule`s, or `None` where there are none.
    """

    in_channels: int
    out_channels: int
    block_channels: tuple[int, ...]
    layers_per_block: int
    num_heads: tuple[int, ...]
    context_dim: int
    attention_levels: tuple[bool, ...]
    gelu: str
    groups: int
    epsilon: float
    transformer_epsilon: float
    temporal: bool
    norm_per_frame: bool = False
    motion: Mapping[str, Any] | None = None
    motion_mid_block: bool = False


class UNetBlock(Layer):
    """What down, middle and up blocks share: their parts, and the text."""

    def __init__(
        self,
        design: UNetDesign,
        level: int,
        num_layers: int,
        num_transformers: int,
        motion: Mapping[str, Any] | None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        groups, temporal = design.groups, design.temporal
        self.channels = channels = design.block_channels[level]
        self.temporal = temporal
        self.rematerialise = False
        modules = 0 if motion is None else (num_transformers or num_layers)

        def parts(kind, name, count, *arguments, **options):
            names = [f"{name}_{i}" for i in range(count)]
            return [self.part(kind, n, channels, *arguments, **options) for n in names]

        block = (groups, design.epsilon, temporal, design.norm_per_frame)
        self.resnets = parts(blocks.ResidualBlock, "resnets", num_layers, *block)
        heads, epsilon = design.num_heads[level], design.transformer_epsilon
        attention = (heads, design.gelu, groups, epsilon, temporal)
        self.attentions = parts(
            SpatioTemporalTransformer, "attentions", num_transformers, *attention
        )
        # What is temporal has it in its path, by which training and files tell.
        how = {"groups": groups, **(motion or {})}
        self.temporal_modules = parts(MotionModule, "temporal_modules", modules, **how)

    def build(self, width, time_width, context_shape, skips=None) -> None:
        """Create the weights for inputs of a width, and of skips beside them."""
        skips = skips or [0] * len(self.resnets)
        for resnet, skip in zip(self.resnets, skips, strict=True):
            resnet.build((None, None, None, width + skip), (None, time_width))
            width = self.channels
        for attention in self.attentions:
            attention.build((None, None, None, self.channels), context_shape)
        self.build_rest((None, None, None, self.channels))

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

    def __init__(self, design: UNetDesign, level: int, **kwargs):
        count, attends = design.layers_per_block, design.attention_levels[level]
        super().__init__(design, level, count, count * attends, design.motion, **kwargs)
        self.downsampler = None
        if level < len(design.block_channels) - 1:
            self.downsampler = self.part(
                blocks.Downsample, "downsamplers_0", self.channels, self.temporal
            )

    def call(
        self, x, time_embedding, text, layers: int | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the output and every intermediate that the up path will want.

        `layers` are how many to pass, and no downsampler then; `None` is all.
        """
        skips = []
        for i, resnet in enumerate(self.resnets[:layers]):
            x = self.attend(i, self.run(resnet, x, time_embedding), text)
            skips.append(x)
        if self.downsampler is not None and layers is None:
            x = self.downsampler(x)
            skips.append(x)
        return x, skips


class MidBlock(UNetBlock):
    """Residual block, transformer, a motion module or none, residual block."""

    def __init__(self, design: UNetDesign, **kwargs):
        motion = design.motion if design.motion_mid_block else None
        super().__init__(design, -1, 2, 1, motion, **kwargs)

    def call(self, x, time_embedding, text) -> Tensor:
        """`(B, F, H, W, C)` or `(B, H, W, C)`; the shape stays."""
        first, second = self.resnets
        x = self.attend(0, self.run(first, x, time_embedding), text)
        return self.run(second, x, time_embedding)


class UpBlock(UNetBlock):
    """Residual blocks fed with skips, each with a transformer or none; an upsampler."""

    def __init__(self, design: UNetDesign, level: int, **kwargs):
        count, attends = design.layers_per_block + 1, design.attention_levels[level]
        super().__init__(design, level, count, count * attends, design.motion, **kwargs)
        self.upsampler = None
        if level > 0:
            self.upsampler = self.part(
                blocks.Upsample, "upsamplers_0", self.channels, self.temporal
            )

    def call(
        self,
        x,
        skips,
        time_embedding,
        text,
        first: int = 0,
        join: Callable[[Tensor, Tensor], Tensor] = joined,
    ) -> Tensor:
        """Consume `skips` of the size of `x`, one for each layer from the `first` on.

        The upsampler comes after the last layer.
        """
        for i, skip in enumerate(skips, start=first):
            x = self.run(self.resnets[i], join(x, skip), time_embedding)
            x = self.attend(i, x, text)
        if self.upsampler is None or first + len(skips) < len(self.resnets):
            return x
        return self.upsampler(x)


class UNet(Layer):
    """The network of `keras_makeavid.models.UNetPseudo3D`, which documents it.

    KerasHub's `Backbone` is traced for one form of inputs; this takes images as well.
    """

    def __init__(self, design: UNetDesign, **kwargs):
        # Timesteps must stay exact in half precision; `call` casts what may be.
        super().__init__(autocast=False, **kwargs)
        self.design = design
        self.is_video = design.temporal or design.motion is not None
        first, levels = design.block_channels[0], range(len(design.block_channels))
        self.time_width = 4 * first

        def convolution(name, channels):
            return self.part(PseudoConv3D, name, channels, temporal=design.temporal)

        self.conv_in = convolution("conv_in", first)
        self.time_embedding = self.part(
            blocks.TimestepEmbedding, "time_embedding", first, self.time_width
        )
        self.down_blocks = [
            self.part(DownBlock, f"down_blocks_{i}", design, i) for i in levels
        ]
        self.mid_block = self.part(MidBlock, "mid_block", design)
        self.up_blocks = [
            self.part(UpBlock, f"up_blocks_{i}", design, level)
            for i, level in enumerate(reversed(levels))
        ]
        norm = (design.groups, design.epsilon, True, design.norm_per_frame)
        self.conv_norm_out = self.part(GroupNormalization, "conv_norm_out", *norm)
        self.conv_out = convolution("conv_out", design.out_channels)

    def build(self, input_shape=None) -> None:
        """Create every weight; all shapes follow from the configuration."""
        context_shape = (None, None, self.design.context_dim)
        self.conv_in.build((None, None, None, self.design.in_channels))
        self.time_embedding.build((None,))
        width = self.design.block_channels[0]
        skips = [width]
        for block in self.down_blocks:
            block.build(width, self.time_width, context_shape)
            width = block.channels
            skips += [width] * (len(block.resnets) + (block.downsampler is not None))
        self.mid_block.build(width, self.time_width, context_shape)
        for block in self.up_blocks:
            block_skips = [skips.pop() for _ in block.resnets]
            block.build(width, self.time_width, context_shape, block_skips)
            width = block.channels
        self.build_rest((None, None, None, width))

    def project_context(self, context) -> dict[str, Any]:
        """Compute the text's keys and values of every transformer, once a video."""
        context = ops.cast(context, self.compute_dtype)
        if context.shape[-1] != self.design.context_dim:
            expected = f"context must have shape (B, L, {self.design.context_dim})"
            raise ValueError(f"{expected}. Received: {tuple(context.shape)}")
        return {
            "down": [block.project_context(context) for block in self.down_blocks],
            "mid": self.mid_block.project_context(context),
            "up": [block.project_context(context) for block in self.up_blocks],
        }

    def call(
        self,
        inputs,
        spatial_only: bool = False,
        layers: int = 0,
        deep: Any = None,
        freeu: Any = None,
    ) -> Any:
        """Predict; with `layers`, return the features as well that so many end with.

        These are the last ones of the up path. Given the features of an earlier pass,
        `deep`, all that leads to them is left out (DeepCache, arXiv 2312.00858).
        `freeu` are the factors b1, b2, s1, s2 for the two coarsest up blocks.
        """
        sample, timesteps = inputs["sample"], inputs["timesteps"]
        factor = 2 ** (len(self.down_blocks) - 1)
        check_shape("sample", sample.shape, self.design.in_channels, factor)
        text = inputs["context"]
        if not isinstance(text, dict):
            text = self.project_context(text)
        if (spatial_only or not self.is_video) and len(sample.shape) == 5:
            return self._call_on_frames(sample, timesteps, text, layers, deep, freeu)

        embedding = self.time_embedding(timesteps)
        x = self.conv_in(ops.cast(sample, self.compute_dtype))
        skips = [x]
        last, last_text = self.up_blocks[-1], text["up"][-1]
        first = len(last.resnets) - layers
        joins = [joined] * len(self.up_blocks)
        if freeu is not None:
            factors = (freeu[0::2], freeu[1::2])[: len(joins)]
            joins[:2] = [functools.partial(joined, factors=f) for f in factors]
        if deep is None:
            for block, block_text in zip(self.down_blocks, text["down"], strict=True):
                x, block_skips = block(x, embedding, block_text)
                skips += block_skips
            x = self.mid_block(x, embedding, text["mid"])
            for block, block_text, join in zip(
                self.up_blocks[:-1], text["up"], joins, strict=False
            ):
                block_skips = [skips.pop() for _ in block.resnets]
                x = block(x, block_skips, embedding, block_text, join=join)
            if first:
                block_skips = [skips.pop() for _ in range(first)]
                x = last(x, block_skips, embedding, last_text, join=joins[-1])
            deep = x
        else:
            down, down_text = self.down_blocks[0], text["down"][0]
            skips += down(x, embedding, down_text, layers=layers - 1)[1]
        if layers:
            rest = {"first": first, "join": joins[-1]}
            x = last(deep, skips[::-1], embedding, last_text, **rest)
        prediction = self.conv_out(self.conv_norm_out(x))
        return (prediction, deep) if layers else prediction

    def _call_on_frames(self, sample, timesteps, text, layers, deep, freeu):
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
        prediction = self.call(images, layers=layers, deep=deep, freeu=freeu)
        if layers:
            prediction, deep = prediction
        prediction = ops.reshape(prediction, (*shape[:-1], self.design.out_channels))
        return (prediction, deep) if layers else prediction

    def compute_output_shape(self, input_shape) -> Shape:
        return (*input_shape["sample"][:-1], self.design.out_channels)
