"""The image autoencoder as one layer: no time, no text, statistics per image."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from keras_makeavid.layers.convolution import SpatialConv
from keras_makeavid.layers.dense import Dense
from keras_makeavid.layers.normalization import GroupNormalization
from keras_makeavid.layers.operations.attention import attention
from keras_makeavid.layers.operations.conv2d import conv2d
from keras_makeavid.layers.operations.silu import silu
from keras_makeavid.layers.resampling import double_nearest
from keras_makeavid.tensor import Shape, Tensor


class ImageResidualBlock(keras.layers.Layer):
    """Norm, SiLU, conv, twice; add the input, through a 1x1 conv if it widens."""

    def __init__(self, channels: int, groups: int, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        policy = self.dtype_policy
        self.norm1 = GroupNormalization(groups, epsilon, dtype=policy, name="norm1")
        self.conv1 = SpatialConv(channels, dtype=policy, name="conv1")
        self.norm2 = GroupNormalization(groups, epsilon, dtype=policy, name="norm2")
        self.conv2 = SpatialConv(channels, dtype=policy, name="conv2")
        self.conv_shortcut: SpatialConv | None = None

    def build(self, input_shape) -> None:
        widened = (*input_shape[:-1], self.channels)
        self.norm1.build(input_shape)
        self.conv1.build(input_shape)
        self.norm2.build(widened)
        self.conv2.build(widened)
        if input_shape[-1] != self.channels:
            self.conv_shortcut = SpatialConv(
                self.channels,
                kernel_size=1,
                dtype=self.dtype_policy,
                name="conv_shortcut",
            )
            self.conv_shortcut.build(input_shape)

    def call(self, inputs) -> Tensor:
        """`(N, H, W, C)` to `(N, H, W, channels)`."""
        x = self.conv1(silu(self.norm1(inputs)))
        x = self.conv2(silu(self.norm2(x)))
        if self.conv_shortcut is not None:
            inputs = self.conv_shortcut(inputs)
        return inputs + x


class ImageAttention(keras.layers.Layer):
    """Attention of one head over the pixels of an image, pre-normed, added back.

    Unlike the UNet's, q, k and v have biases.
    """

    def __init__(self, channels: int, groups: int, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.group_norm = GroupNormalization(
            groups, epsilon, dtype=policy, name="group_norm"
        )
        self.to_q = Dense(channels, dtype=policy, name="to_q")
        self.to_k = Dense(channels, dtype=policy, name="to_k")
        self.to_v = Dense(channels, dtype=policy, name="to_v")
        self.to_out = Dense(channels, dtype=policy, name="to_out")

    def build(self, input_shape) -> None:
        self.group_norm.build(input_shape)
        for projection in (self.to_q, self.to_k, self.to_v, self.to_out):
            projection.build((None, None, input_shape[-1]))

    def call(self, inputs) -> Tensor:
        """Attend within each of `(N, H, W, C)`; the shape stays."""
        batch, height, width, channels = ops.shape(inputs)
        tokens = ops.reshape(self.group_norm(inputs), (batch, -1, channels))
        query, key, value = (
            ops.expand_dims(project(tokens), 2)
            for project in (self.to_q, self.to_k, self.to_v)
        )
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


class ImageUpsample(keras.layers.Layer):
    """Doubles height and width by nearest neighbour, then a convolution."""

    def __init__(self, channels: int, name: str = "upsamplers_0", **kwargs):
        super().__init__(name=name, **kwargs)
        self.conv = SpatialConv(channels, dtype=self.dtype_policy, name="conv")

    def build(self, input_shape) -> None:
        self.conv.build(input_shape)

    def call(self, inputs) -> Tensor:
        """`(N, H, W, C)` to twice the height and width."""
        return self.conv(double_nearest(inputs))


class ImageBlock(keras.layers.Layer):
    """Residual blocks, then a downsampler, an upsampler or neither."""

    def __init__(
        self,
        channels: int,
        num_layers: int,
        groups: int,
        epsilon: float,
        sampler: type[keras.layers.Layer] | None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        policy = self.dtype_policy
        self.resnets = [
            ImageResidualBlock(
                channels, groups, epsilon, dtype=policy, name=f"resnets_{i}"
            )
            for i in range(num_layers)
        ]
        self.sampler = sampler(channels, dtype=policy) if sampler else None

    def build(self, input_shape) -> None:
        for resnet in self.resnets:
            resnet.build(input_shape)
            input_shape = (*input_shape[:-1], self.channels)
        if self.sampler is not None:
            self.sampler.build(input_shape)

    def call(self, x) -> Tensor:
        """`(N, H, W, C)` to `(N, H', W', channels)`."""
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.sampler is None else self.sampler(x)


class ImageMidBlock(keras.layers.Layer):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, groups: int, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.resnets = [
            ImageResidualBlock(
                channels, groups, epsilon, dtype=policy, name=f"resnets_{i}"
            )
            for i in range(2)
        ]
        self.attention = ImageAttention(
            channels, groups, epsilon, dtype=policy, name="attention"
        )

    def build(self, input_shape) -> None:
        for resnet in self.resnets:
            resnet.build(input_shape)
        self.attention.build(input_shape)

    def call(self, x) -> Tensor:
        """Transform `(N, H, W, channels)`; the shape stays."""
        first, second = self.resnets
        return second(self.attention(first(x)))


class Encoder(keras.layers.Layer):
    """Images to the moments of their latents, before the quant convolution."""

    def __init__(
        self,
        latent_channels: int,
        block_channels: Sequence[int],
        layers_per_block: int,
        groups: int,
        epsilon: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.conv_in = SpatialConv(block_channels[0], dtype=policy, name="conv_in")
        last = len(block_channels) - 1
        self.down_blocks = [
            ImageBlock(
                channels,
                layers_per_block,
                groups,
                epsilon,
                ImageDownsample if i < last else None,
                dtype=policy,
                name=f"down_blocks_{i}",
            )
            for i, channels in enumerate(block_channels)
        ]
        self.mid_block = ImageMidBlock(
            block_channels[-1], groups, epsilon, dtype=policy, name="mid_block"
        )
        self.conv_norm_out = GroupNormalization(
            groups, epsilon, dtype=policy, name="conv_norm_out"
        )
        self.conv_out = SpatialConv(2 * latent_channels, dtype=policy, name="conv_out")

    def build(self, input_shape) -> None:
        self.conv_in.build(input_shape)
        channels = self.conv_in.filters
        for block in self.down_blocks:
            block.build((None, None, None, channels))
            channels = block.channels
        for layer in (self.mid_block, self.conv_norm_out, self.conv_out):
            layer.build((None, None, None, channels))

    def compute_output_shape(self, input_shape) -> Shape:
        batch, height, width, _ = input_shape
        factor = 2 ** (len(self.down_blocks) - 1)
        sides = (None if n is None else n // factor for n in (height, width))
        return (batch, *sides, self.conv_out.filters)

    def call(self, images) -> Tensor:
        """`(N, H, W, C)` to `(N, H / factor, W / factor, 2 * latent_channels)`."""
        x = self.conv_in(images)
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        return self.conv_out(silu(self.conv_norm_out(x)))


class Decoder(keras.layers.Layer):
    """Latents, behind the post-quant convolution, to images.

    Its levels have one residual block more than the encoder's `layers_per_block`.
    """

    def __init__(
        self,
        out_channels: int,
        block_channels: Sequence[int],
        layers_per_block: int,
        groups: int,
        epsilon: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.conv_in = SpatialConv(block_channels[-1], dtype=policy, name="conv_in")
        self.mid_block = ImageMidBlock(
            block_channels[-1], groups, epsilon, dtype=policy, name="mid_block"
        )
        last = len(block_channels) - 1
        self.up_blocks = [
            ImageBlock(
                channels,
                layers_per_block + 1,
                groups,
                epsilon,
                ImageUpsample if i < last else None,
                dtype=policy,
                name=f"up_blocks_{i}",
            )
            for i, channels in enumerate(reversed(block_channels))
        ]
        self.conv_norm_out = GroupNormalization(
            groups, epsilon, dtype=policy, name="conv_norm_out"
        )
        self.conv_out = SpatialConv(out_channels, dtype=policy, name="conv_out")

    def build(self, input_shape) -> None:
        self.conv_in.build(input_shape)
        channels = self.conv_in.filters
        self.mid_block.build((None, None, None, channels))
        for block in self.up_blocks:
            block.build((None, None, None, channels))
            channels = block.channels
        for layer in (self.conv_norm_out, self.conv_out):
            layer.build((None, None, None, channels))

    def compute_output_shape(self, input_shape) -> Shape:
        batch, height, width, _ = input_shape
        factor = 2 ** (len(self.up_blocks) - 1)
        sides = (None if n is None else n * factor for n in (height, width))
        return (batch, *sides, self.conv_out.filters)

    def call(self, latents) -> Tensor:
        """`(N, h, w, C)` to `(N, h * factor, w * factor, out_channels)`."""
        x = self.mid_block(self.conv_in(latents))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(silu(self.conv_norm_out(x)))


class Autoencoder(keras.layers.Layer):
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
        policy = self.dtype_policy
        self.latent_channels = latent_channels
        sizes = (block_channels, layers_per_block, groups, epsilon)
        self.encoder = Encoder(latent_channels, *sizes, dtype=policy, name="encoder")
        self.quant_conv = SpatialConv(
            2 * latent_channels, kernel_size=1, dtype=policy, name="quant_conv"
        )
        self.post_quant_conv = SpatialConv(
            latent_channels, kernel_size=1, dtype=policy, name="post_quant_conv"
        )
        self.decoder = Decoder(in_channels, *sizes, dtype=policy, name="decoder")

    def build(self, input_shape) -> None:
        latent_shape = (None, None, None, self.latent_channels)
        self.encoder.build(input_shape)
        self.quant_conv.build((None, None, None, 2 * self.latent_channels))
        self.post_quant_conv.build(latent_shape)
        self.decoder.build(latent_shape)

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

    def compute_output_shape(self, input_shape) -> Shape:
        return input_shape
