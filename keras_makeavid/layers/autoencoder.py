"""The image autoencoder as one layer."""

from __future__ import annotations

import keras
from keras import ops

from keras_makeavid.layers.autoencoder_blocks import Decoder, Encoder
from keras_makeavid.layers.convolution import SpatialConv


class Autoencoder(keras.layers.Layer):
    """The network of `keras_makeavid.models.AutoencoderKL`, which documents it.

    Args:
        in_channels: Channels of an image.
        latent_channels: Channels of a latent.
        block_channels: Channels of each level.
        layers_per_block: Residual blocks of an encoder's level.
        groups: Groups of every group norm.
        epsilon: Epsilon of every group norm.
    """

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

    def build(self, input_shape):
        latent_shape = (None, None, None, self.latent_channels)
        self.encoder.build(input_shape)
        self.quant_conv.build((None, None, None, 2 * self.latent_channels))
        self.post_quant_conv.build(latent_shape)
        self.decoder.build(latent_shape)

    def encode(self, images):
        """`(N, H, W, C)` to moments `(N, h, w, 2 * latent_channels)`."""
        return self.quant_conv(self.encoder(images))

    def decode(self, latents):
        """`(N, h, w, latent_channels)` to `(N, H, W, C)`."""
        return self.decoder(self.post_quant_conv(latents))

    def call(self, images):
        """Reconstruct `(N, H, W, C)` from the posterior mean."""
        mean, _ = ops.split(self.encode(images), 2, axis=-1)
        return self.decode(mean)

    def compute_output_shape(self, input_shape):
        return input_shape
