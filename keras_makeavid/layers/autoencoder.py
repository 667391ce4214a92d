"""The networks of both image autoencoders, each as one layer: no time, no text."""

from collections.abc import Callable, Iterable, Sequence

import keras
from keras import ops

from keras_makeavid.layers.blocks import double_nearest
from keras_makeavid.layers.convolution import SpatialConv
from keras_makeavid.layers.dense import Dense
from keras_makeavid.layers.layer import Layer, ShapeKeepingLayer
from keras_makeavid.layers.normalization import GroupNormalization
from keras_makeavid.layers.operations.activations import silu
from keras_makeavid.layers.operations.attention import attention
from keras_makeavid.layers.operations.products import conv2d
from keras_makeavid.tensor import Tensor

# The decoder bounds latents softly by it, whatever its configuration says.
_LARGEST_LATENT = 3.0


class ImageResidualBlock(Layer):
    """Norm, SiLU, conv, twice; add the input, through a 1x1 conv if it widens."""

    def __init__(self, channels: int, groups: int, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.norm1 = self.part(GroupNormalization, "norm1", groups, epsilon)
        self.conv1 = self.part(SpatialConv, "conv1", channels)
        self.norm2 = self.part(GroupNormalization, "norm2", groups, epsilon)
        self.conv2 = self.part(SpatialConv, "conv2", channels)
        self.conv_shortcut: SpatialConv | None = None

    def build(self, input_shape) -> None:
        self.norm1.build(input_shape)
        self.conv1.build(input_shape)
        self.build_rest((*input_shape[:-1], self.channels))
        if input_shape[-1] != self.channels:
            self.conv_shortcut = self.part(
                SpatialConv, "conv_shortcut", self.channels, kernel_size=1
            )
            self.conv_shortcut.build(input_shape)

    def call(self, inputs) -> Tensor:
        """`(N, H, W, C)` to `(N, H, W, channels)`."""
        x = self.conv1(silu(self.norm1(inputs)))
        x = self.conv2(silu(self.norm2(x)))
        if self.conv_shortcut is not None:
            inputs = self.conv_shortcut(inputs)
        return inputs + x


class ImageAttention(ShapeKeepingLayer):
    """Attention of one head over an image's pixels, pre-normed, all with biases."""

    def __init__(self, channels: int, groups: int, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        self.group_norm = self.part(GroupNormalization, "group_norm", groups, epsilon)
        self.to_q = self.part(Dense, "to_q", channels)
        self.to_k = self.part(Dense, "to_k", channels)
        self.to_v = self.part(Dense, "to_v", channels)
        self.to_out = self.part(Dense, "to_out", channels)

    def build(self, input_shape) -> None:
        self.build_rest(input_shape)

    def call(self, inputs) -> Tensor:
        """Attend within each of `(N, H, W, C)`; the shape stays."""
        batch, height, width, channels = ops.shape(inputs)
        tokens = ops.reshape(self.group_norm(inputs), (batch, -1, channels))
        projections = self.to_q, self.to_k, self.to_v
        query, key, value = (ops.expand_dims(f(tokens), 2) for f in projections)
        outputs = attention(query, key, value)
        outputs = self.to_out(ops.squeeze(outputs, 2))
        return inputs + ops.reshape(outputs, (batch, height, width, channels))


class ImageDownsample(SpatialConv):
    """Convolution of stride 2, padded by (0, 1) where the UNet's is by (1, 1)."""

    def __init__(self, channels: int, name: str = "downsamplers_0", **kwargs):
        super().__init__(channels, strides=2, name=name, **kwargs)

    def call(self, inputs) -> Tensor:
        """`(N, H, W, C)` of even H and W to half the height and width."""
        padded = ops.pad(inputs, ((0, 0), (0, 1), (0, 1), (0, 0)))
        return conv2d(padded, self.kernel, self.bias, self.strides, padding="valid")


class ImageUpsample(Layer):
    """Doubles height and width by nearest neighbour, then a convolution."""

    def __init__(self, channels: int, name: str = "upsamplers_0", **kwargs):
        super().__init__(name=name, **kwargs)
        self.conv = self.part(SpatialConv, "conv", channels)

    def build(self, input_shape) -> None:
        self.conv.build(input_shape)

    def call(self, inputs) -> Tensor:
        """`(N, H, W, C)` to twice the height and width."""
        return self.conv(double_nearest(inputs))


class ImageBlock(Layer):
    """Residual blocks, attention behind the first if it `attends`, and a sampler."""

    def __init__(
        self,
        channels: int,
        num_layers: int,
        groups: int,
        epsilon: float,
        sampler: type[keras.layers.Layer] | None = None,
        attends: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        block = (channels, groups, epsilon)
        names = [f"resnets_{i}" for i in range(num_layers)]
        self.resnets = [self.part(ImageResidualBlock, name, *block) for name in names]
        self.attention = (
            self.part(ImageAttention, "attention", *block) if attends else None
        )
        self.sampler = sampler(channels, dtype=self.dtype_policy) if sampler else None

    def build(self, input_shape) -> None:
        for resnet in self.resnets:
            resnet.build(input_shape)
            input_shape = (*input_shape[:-1], self.channels)
        self.build_rest(input_shape)

    def call(self, x) -> Tensor:
        """`(N, H, W, C)` to `(N, H', W', channels)`."""
        for i, resnet in enumerate(self.resnets):
            x = resnet(x)
            if i == 0 and self.attention is not None:
                x = self.attention(x)
        return x if self.sampler is None else self.sampler(x)


class Coder(Layer):
    """Blocks of several levels between a convolution in, and a norm and one out.

    `channels` are those of the levels as they are passed. Behind the last of an
    encoder, and before the first if it `decodes`, is a middle block.
    """

    def __init__(
        self,
        channels: Sequence[int],
        out_channels: int,
        num_layers: int,
        groups: int,
        epsilon: float,
        decodes: bool,
        **kwargs,
    ):
        super().__init__(**kwargs)
        norm = (groups, epsilon)
        self.decodes = decodes
        self.conv_in = self.part(SpatialConv, "conv_in", channels[0])
        sampler = ImageUpsample if decodes else ImageDownsample
        # All levels but the last end with a sampler.
        samplers = [sampler] * (len(channels) - 1) + [None]
        row = "up_blocks" if decodes else "down_blocks"
        levels = [
            self.part(ImageBlock, f"{row}_{i}", width, num_layers, *norm, sampler)
            for i, (width, sampler) in enumerate(zip(channels, samplers, strict=True))
        ]
        width = channels[0 if decodes else -1]
        middle = self.part(ImageBlock, "mid_block", width, 2, *norm, attends=True)
        # Saved by these names, and weights listed in this order.
        if decodes:
            self.mid_block, self.up_blocks = middle, levels
        else:
            self.down_blocks, self.mid_block = levels, middle
        self.conv_norm_out = self.part(GroupNormalization, "conv_norm_out", *norm)
        self.conv_out = self.part(SpatialConv, "conv_out", out_channels)

    def _blocks(self) -> list[ImageBlock]:
        """The blocks in the order in which they are passed."""
        if self.decodes:
            return [self.mid_block, *self.up_blocks]
        return [*self.down_blocks, self.mid_block]

    def build(self, input_shape) -> None:
        self.conv_in.build(input_shape)
        shape = (None, None, None, self.conv_in.filters)
        for block in self._blocks():
            block.build(shape)
            shape = (None, None, None, block.channels)
        self.build_rest(shape)

    def call(self, inputs) -> Tensor:
        """`(N, H, W, C)` to `(N, H', W', out_channels)`."""
        x = self.conv_in(inputs)
        for block in self._blocks():
            x = block(x)
        return self.conv_out(silu(self.conv_norm_out(x)))


class Autoencoder(ShapeKeepingLayer):
    """The network of `keras_makeavid.models.AutoencoderKL`, which documents it."""

    def __init__(
        self,
        in_channels: int,
        latent_channels: int,
        block_channels: tuple[int, ...],
        layers_per_block: int,
        groups: int,
        epsilon: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.latent_channels = latent_channels
        moments, norm = 2 * latent_channels, (groups, epsilon)
        self.encoder = self.part(
            Coder, "encoder", block_channels, moments, layers_per_block, *norm, False
        )
        self.quant_conv = self.part(SpatialConv, "quant_conv", moments, kernel_size=1)
        self.post_quant_conv = self.part(
            SpatialConv, "post_quant_conv", latent_channels, kernel_size=1
        )
        channels, num_layers = block_channels[::-1], layers_per_block + 1
        self.decoder = self.part(
            Coder, "decoder", channels, in_channels, num_layers, *norm, True
        )

    def build(self, input_shape) -> None:
        self.encoder.build(input_shape)
        self.quant_conv.build((None, None, None, 2 * self.latent_channels))
        self.build_rest((None, None, None, self.latent_channels))

    def encode(self, images) -> Tensor:
        """`(N, H, W, C)` to moments `(N, h, w, 2 * latent_channels)`."""
        return self.quant_conv(self.encoder(images))

    def decode(self, latents) -> Tensor:
        """`(N, h, w, latent_channels)` to `(N, H, W, C)`."""
        return self.decoder(self.post_quant_conv(latents))

    def call(self, images) -> Tensor:
        """Reconstruct `(N, H, W, C)` from the posterior mean."""
        mean, _ = ops.split(self.encode(images), 2, axis=-1)
        return self.decode(mean)


class TinyBlock(ShapeKeepingLayer):
    """Three convolutions with ReLU between, the input added, and ReLU."""

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        # Named by their place, as in published files: the ReLUs have the others.
        self.conv_0, self.conv_2, self.conv_4 = (
            self.part(SpatialConv, f"conv_{place}", channels) for place in (0, 2, 4)
        )
        self.filters = channels

    def build(self, input_shape) -> None:
        self.build_rest(input_shape)

    def call(self, inputs) -> Tensor:
        """Transform `(N, H, W, channels)`; the shape stays."""
        x = ops.relu(self.conv_0(inputs))
        x = self.conv_4(ops.relu(self.conv_2(x)))
        return ops.relu(inputs + x)


class _Stack(Layer):
    """Layers, as class and arguments, and functions, named by their place."""

    def __init__(self, steps: Iterable[tuple], **kwargs):
        super().__init__(**kwargs)
        self._steps: list[str | Callable[[Tensor], Tensor]] = []
        for place, (make, *arguments) in enumerate(steps):
            name = f"layers_{place}"
            # Layers are attributes of their own, which Keras saves by these names.
            if isinstance(make, type):
                setattr(self, name, self.part(make, name, *arguments))
            self._steps.append(name if isinstance(make, type) else make)

    def build(self, input_shape):
        for step in self._steps:
            if isinstance(step, str):
                layer = getattr(self, step)
                layer.build(input_shape)
                input_shape = (None, None, None, layer.filters)

    def call(self, x):
        """`(N, H, W, C)` through every step."""
        for step in self._steps:
            x = getattr(self, step)(x) if isinstance(step, str) else step(x)
        return x


class TinyAutoencoder(ShapeKeepingLayer):
    """The network of `keras_makeavid.models.AutoencoderTiny`, which documents it."""

    def __init__(
        self,
        in_channels: int,
        latent_channels: int,
        channels: int,
        encoder_blocks: Sequence[int],
        decoder_blocks: Sequence[int],
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.latent_channels = latent_channels
        steps = _encoder_steps(latent_channels, channels, encoder_blocks)
        self.encoder = self.part(_Stack, "encoder", steps)
        steps = _decoder_steps(in_channels, channels, decoder_blocks)
        self.decoder = self.part(_Stack, "decoder", steps)

    def build(self, input_shape) -> None:
        self.encoder.build(input_shape)
        self.decoder.build((None, None, None, self.latent_channels))

    def encode(self, images) -> Tensor:
        """`(N, H, W, C)` in [-1, 1] to `(N, h, w, latent_channels)`."""
        return self.encoder((images + 1) / 2)

    def decode(self, latents) -> Tensor:
        """`(N, h, w, latent_channels)` to `(N, H, W, C)`, about in [-1, 1]."""
        bounded = ops.tanh(latents / _LARGEST_LATENT) * _LARGEST_LATENT
        return self.decoder(bounded) * 2 - 1

    def call(self, images) -> Tensor:
        """Reconstruct `(N, H, W, C)`."""
        return self.decode(self.encode(images))


def _encoder_steps(latent_channels, channels, blocks):
    for level, count in enumerate(blocks):
        # Filters, side of the kernel, stride, whether there is a bias.
        yield (SpatialConv, channels, 3, 2 if level else 1, not level)
        yield from [(TinyBlock, channels)] * count
    yield (SpatialConv, latent_channels)


def _decoder_steps(out_channels, channels, blocks):
    yield (SpatialConv, channels)
    yield (ops.relu,)
    for level, count in enumerate(blocks):
        yield from [(TinyBlock, channels)] * count
        if level < len(blocks) - 1:
            yield (double_nearest,)
            yield (SpatialConv, channels, 3, 1, False)
    yield (SpatialConv, out_channels)
