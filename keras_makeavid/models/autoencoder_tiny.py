"""The tiny image autoencoder: a fast decoder for the latents of Stable Diffusion."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_makeavid.layers.autoencoder import TinyAutoencoder
from keras_makeavid.layers.int8 import network_policy
from keras_makeavid.layers.layer import Configured
from keras_makeavid.models.frame_coding import FrameCoding
from keras_makeavid.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_makeavid")
class AutoencoderTiny(Configured, FrameCoding):
    """TAESD (Ollin Boer Bohan): Stable Diffusion's autoencoder, distilled.

    Its latents are those that the UNet takes: what `AutoencoderKL` multiplies by its
    `scaling_factor`, with nothing to multiply by here. Decoding takes a hundredth of
    the arithmetic of `AutoencoderKL` and loses fine detail.

    The defaults are those of `madebyollin/taesd`: 2,445,063 parameters.

    Args:
        in_channels: Channels of an image.
        latent_channels: Channels of a latent.
        channels: Channels of every level.
        encoder_blocks: Residual blocks of each level, from the finest to the coarsest.
        decoder_blocks: Residual blocks of each level, from the coarsest to the finest.
        scaling_factor: What latents are multiplied by.
        dtype: Dtype or dtype policy of computation and weights.

    Call arguments:
        images: `(B, H, W, in_channels)` or `(B, F, H, W, in_channels)` in [-1, 1];
            H and W multiples of `2 ** (levels - 1)`.

    Returns:
        The reconstruction, of the shape of `images`. Latents are not rounded to bytes
        on their way, as diffusers' class does when it is called.

    Raises:
        ValueError: If a shape does not fit; the text says which would.

    Example:
    ```python
    tiny = AutoencoderTiny(channels=8, encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    images = keras.random.uniform((1, 16, 16, 3), -1.0, 1.0)
    latents = tiny.encode(images)  # (1, 8, 8, 4)
    tiny.decode(latents).shape  # (1, 16, 16, 3)
    ```
    """

    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 4,
        channels: int = 64,
        encoder_blocks: Sequence[int] = (1, 3, 3, 3),
        decoder_blocks: Sequence[int] = (3, 3, 3, 1),
        scaling_factor: float = 1.0,
        dtype=None,
        **kwargs,
    ):
        dtype = network_policy(dtype)
        encoder_blocks, decoder_blocks = tuple(encoder_blocks), tuple(decoder_blocks)
        if not encoder_blocks or len(encoder_blocks) != len(decoder_blocks):
            raise ValueError(
                "encoder_blocks and decoder_blocks must have one entry for each level. "
                f"Received: encoder_blocks={encoder_blocks}, "
                f"decoder_blocks={decoder_blocks}"
            )
        network = TinyAutoencoder(
            in_channels,
            latent_channels,
            channels,
            encoder_blocks,
            decoder_blocks,
            dtype=dtype,
            name="tiny_autoencoder",
        )
        super().__init__(network, in_channels, dtype, **kwargs)
        self.in_channels = in_channels
        self.latent_channels = latent_channels
        self.channels = channels
        self.encoder_blocks = encoder_blocks
        self.decoder_blocks = decoder_blocks
        self.scaling_factor = scaling_factor

    @property
    def downsampling_factor(self) -> int:
        return 2 ** (len(self.encoder_blocks) - 1)

    def encode(self, images) -> Tensor:
        """Encode images as latents, times `scaling_factor`.

        Args:
            images: `(..., H, W, in_channels)` in [-1, 1], as in a call.

        Returns:
            `(..., H / factor, W / factor, latent_channels)`.

        Raises:
            ValueError: If the shape does not fit, or `images` are integers.

        Example:
        ```python
        latents = autoencoder.encode(keras.ops.zeros((1, 64, 64, 3)))
        ```
        """
        self._check_images(images)
        return self._by_frame(self.network.encode, images) * self.scaling_factor
