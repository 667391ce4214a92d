"""The image autoencoders: Stable Diffusion's, and a tiny one for the same latents."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_makeavid.layers.autoencoder import Autoencoder, TinyAutoencoder
from keras_makeavid.layers.int8 import network_policy
from keras_makeavid.layers.layer import Configured
from keras_makeavid.models.frame_coding import FrameCoding
from keras_makeavid.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_makeavid")
class AutoencoderKL(Configured, FrameCoding):
    """Stable Diffusion 1.5's variational autoencoder (Rombach et al., 2022).

    It knows images only: the frames of a video `(B, F, H, W, C)` are coded each on its
    own. A latent has `2 ** (levels - 1)` times fewer pixels a side than its image (8 in
    Stable Diffusion), and is scaled to about unit variance.

    The defaults are Stable Diffusion 1.5's: 83,653,863 parameters.

    Args:
        in_channels: Channels of an image.
        latent_channels: Channels of a latent.
        block_channels: Channels of each level, from the finest to the coarsest.
        layers_per_block: Residual blocks of an encoder's level; a decoder's have more.
        groups: Groups of every group norm.
        epsilon: Epsilon of every group norm.
        scaling_factor: What latents are multiplied by (docs/model.md, Diffusion).
        dtype: Dtype or dtype policy of computation and weights.

    Call arguments:
        images: `(B, H, W, in_channels)` or `(B, F, H, W, in_channels)` in [-1, 1]; H
            and W multiples of `2 ** (levels - 1)`, or else a `ValueError`.

    Returns:
        The reconstruction from the posterior mean, of the shape of `images`.

    Raises:
        ValueError: If there is no level, or one's channels cannot be grouped.

    Example:
    ```python
    autoencoder = AutoencoderKL(block_channels=(32, 64), layers_per_block=1)
    latents = autoencoder.encode(np.zeros((1, 16, 16, 3)))  # (1, 8, 8, 4)
    autoencoder.decode(latents).shape  # (1, 16, 16, 3)
    ```
    """

    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 4,
        block_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        groups: int = 32,
        epsilon: float = 1e-6,
        scaling_factor: float = 0.18215,
        dtype=None,
        **kwargs,
    ):
        dtype = network_policy(dtype)
        block_channels = tuple(block_channels)
        if not block_channels:
            raise ValueError("block_channels must name at least one level.")
        if any(channels % groups for channels in block_channels):
            raise ValueError(
                "Each of block_channels must be a multiple of groups. Received: "
                f"block_channels={block_channels}, groups={groups}"
            )
        of = in_channels, latent_channels, block_channels, layers_per_block, groups
        network = Autoencoder(*of, epsilon, dtype=dtype, name="autoencoder")
        sizes = (in_channels, latent_channels, scaling_factor)
        super().__init__(network, *sizes, len(block_channels), dtype, **kwargs)
        self.block_channels = block_channels
        self.layers_per_block = layers_per_block
        self.groups = groups
        self.epsilon = epsilon

    def posterior(self, images) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents, not yet scaled, float32.

        The second is clipped to [-30, 20]. All else is as for `encode`.
        """
        self._check_images(images)
        moments = self._by_frame(self.network.encode, images)
        mean, log_variance = ops.split(ops.cast(moments, "float32"), 2, axis=-1)
        return mean, ops.clip(log_variance, -30.0, 20.0)

    def encode(self, images) -> Tensor:
        """Encode images as latents: the posterior's mean, times `scaling_factor`.

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
        mean, _ = self.posterior(images)
        return ops.cast(mean * self.scaling_factor, self.compute_dtype)


@keras.saving.register_keras_serializable(package="keras_makeavid")
class AutoencoderTiny(Configured, FrameCoding):
    """TAESD (Ollin Boer Bohan): Stable Diffusion's autoencoder, distilled.

    Its latents are those that the UNet takes: what `AutoencoderKL` multiplies by its
    `scaling_factor`, with nothing to multiply by here. Decoding takes a hundredth of
    the arithmetic of `AutoencoderKL` and loses fine detail. Calls are as there; latents
    are not rounded to bytes on their way, as diffusers' class does when it is called.

    The defaults are those of `madebyollin/taesd`: 2,445,063 parameters.

    Args:
        in_channels: Channels of an image.
        latent_channels: Channels of a latent.
        channels: Channels of every level.
        encoder_blocks: Residual blocks of each level, from the finest to the coarsest.
        decoder_blocks: Residual blocks of each level, from the coarsest to the finest.
        scaling_factor: What latents are multiplied by.
        dtype: Dtype or dtype policy of computation and weights.

    Raises:
        ValueError: If the two coders have not as many levels, or none.

    Example:
    ```python
    tiny = AutoencoderTiny(channels=8, encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    images = keras.random.uniform((1, 16, 16, 3), -1.0, 1.0)
    tiny.decode(tiny.encode(images)).shape  # (1, 16, 16, 3)
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
        of = in_channels, latent_channels, channels, encoder_blocks, decoder_blocks
        network = TinyAutoencoder(*of, dtype=dtype, name="tiny_autoencoder")
        sizes = (in_channels, latent_channels, scaling_factor)
        super().__init__(network, *sizes, len(encoder_blocks), dtype, **kwargs)
        self.channels = channels
        self.encoder_blocks = encoder_blocks
        self.decoder_blocks = decoder_blocks

    def encode(self, images) -> Tensor:
        """Encode images as latents, as `AutoencoderKL.encode`.

        Example:
        ```python
        latents = autoencoder.encode(keras.ops.zeros((1, 64, 64, 3)))
        ```
        """
        self._check_images(images)
        return self._by_frame(self.network.encode, images) * self.scaling_factor
