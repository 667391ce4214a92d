"""The training models on images: of the inpainting UNet, and of the VAE."""

import keras
import numpy as np
from keras import ops

from keras_makeavid.data.loaders import BatchLoader
from keras_makeavid.models import AutoencoderKL, UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.tensor import Tensor
from keras_makeavid.training.trainable import (
    check_spatial,
    matching_layers,
    set_trainable,
)
from keras_makeavid.training.training_model import DiffusionModel, ReportingModel

# Enough to know the scale of latents by.
_IMAGES = 1024


class ImageDiffusion(DiffusionModel):
    """Trains a UNet to inpaint images, with plain `compile` and `fit`.

    Stable Diffusion's inpainting model was made so. A batch is a dict of `images` `(B,
    H, W, 3)` in [-1, 1] and `token_ids` `(B, L)`. A share of the samples is to be
    filled altogether (mask 1, hint the latent of a zero image), the others within a
    rectangle drawn for each. The VAE does not train. See `VideoDiffusion` for the rest.

    Args:
        unet: The `UNetPseudo3D` to train, of mask and hint channels.
        vae: The `AutoencoderKL` of its latents.
        text_encoder: Takes `{"token_ids"}`, returns text states `(B, L, D)`.
        trainable: What trains of the UNet, see `set_trainable`; nothing temporal may.
        train_text_encoder: Whether the text encoder trains with it.
        full_mask_share: Share of the samples of which nothing is given.
        empty_token_ids: Ids `(L,)` of the empty prompt, for `caption_dropout`.

    Raises:
        ValueError: If the UNet takes other channels, or an argument is none of these.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32,), attention_levels=(True,), context_dim=64)
    vae = AutoencoderKL(block_channels=(32, 64), layers_per_block=1)
    text_encoder = TextEncoder(100, 64, 64, 1, 1, 64, max_sequence_length=8)
    model = ImageDiffusion(unet, vae, text_encoder, schedule=NoiseSchedule())
    model.compile(optimizer=AdamW(learning_rate=1e-4))
    images, token_ids = np.zeros((2, 16, 16, 3)), np.zeros((2, 8), "int32")
    model.fit({"images": images, "token_ids": token_ids})
    ```
    """

    EMPTY = "empty_token_ids"

    def __init__(
        self,
        unet: UNetPseudo3D,
        vae: AutoencoderKL,
        text_encoder: keras.Model,
        *,
        schedule: NoiseSchedule,
        trainable: str = "spatial",
        train_text_encoder: bool = False,
        full_mask_share: float = 0.5,
        caption_dropout: float = 0.0,
        empty_token_ids: np.ndarray | None = None,
        min_snr_gamma: float | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        empty, gamma = empty_token_ids, min_snr_gamma
        super().__init__(unet, schedule, caption_dropout, empty, gamma, seed, **kwargs)
        if not 0.0 <= full_mask_share <= 1.0:
            expected = "full_mask_share must be from 0 to 1"
            raise ValueError(f"{expected}. Received: {full_mask_share}")
        inpainting = 2 * vae.latent_channels + 1
        if unet.in_channels != inpainting:
            problem = f"The UNet must take {inpainting} channels: latent, mask and hint"
            raise ValueError(f"{problem}. Received: in_channels={unet.in_channels}")
        self.vae = vae
        self.text_encoder = text_encoder
        self.full_mask_share = full_mask_share
        self.empty_token_ids = empty_token_ids
        if trainable != "lora":
            check_spatial(matching_layers(unet, trainable), trainable)
        set_trainable(unet, trainable)
        vae.trainable = False
        text_encoder.trainable = train_text_encoder
        self.built = True

    def call(self, inputs) -> dict[str, Tensor]:
        """Draw masks, noise and timesteps for `images` and `token_ids`, and predict.

        The dict has `prediction` and `target`, both `(B, H, W, C)` float32, and
        `weights` `(B,)` if the timesteps are weighed.
        """
        token_ids = ops.cast(inputs["token_ids"], "int32")
        if self.caption_dropout:
            token_ids = self.with_dropout(
                token_ids, ops.array(self.empty_token_ids, "int32")
            )
        context = self.text_encoder({"token_ids": token_ids})
        latents, mask, hint = self._encode(ops.cast(inputs["images"], "float32"))
        noisy, timesteps, target = self.noised(latents)
        sample = ops.concatenate([noisy, mask, hint], axis=-1)
        asked = {"sample": sample, "timesteps": timesteps, "context": context}
        prediction = self.unet(asked)
        return self.outputs(prediction, target, timesteps)

    def _encode(self, images):
        """Latents of the images, masks on their grid, and latents of what is given."""
        if self.full_mask_share == 1.0:
            # The same hint for all: half the work.
            blank = self._latents(ops.zeros_like(images[:1]))
            latents = self._latents(images)
            hint = ops.broadcast_to(blank, ops.shape(latents))
            return latents, ops.ones_like(latents[..., :1]), hint
        mask = self._masks(images)
        both = ops.concatenate([images, images * (1.0 - mask)])
        latents, hint = ops.split(self._latents(both), 2)
        step = self.vae.downsampling_factor
        return latents, mask[:, step // 2 :: step, step // 2 :: step], hint

    def _latents(self, images):
        return ops.stop_gradient(ops.cast(self.vae.encode(images), "float32"))

    def _masks(self, images):
        """Masks `(B, H, W, 1)`: 1 everywhere, or within a rectangle."""
        # Sides are uniform in 0 to 1 of the image's, at a uniform place.
        batch, (height, width) = ops.shape(images)[0], images.shape[1:3]
        seed = self.seed_generator
        drawn = keras.random.uniform((batch, 5, 1), dtype="float32", seed=seed)
        rows = _within(drawn[:, 0], drawn[:, 1], height)[:, :, None]
        columns = _within(drawn[:, 2], drawn[:, 3], width)[:, None, :]
        full = drawn[:, 4, :, None] < self.full_mask_share
        return ops.cast((full | (rows & columns))[..., None], "float32")


def _within(length, place, size):
    """Which pixels `(B, size)` of a side an interval covers, of shares `(B, 1)`."""
    centres = (ops.arange(size, dtype="float32") + 0.5) / size
    start = place * (1.0 - length)
    return (start <= centres) & (centres <= start + length)


class ImageAutoencoding(ReportingModel):
    """Trains an `AutoencoderKL` on images with plain `compile` and `fit`.

    The loss is the mean squared error of the reconstruction from a posterior sample,
    plus a little of the Kullback-Leibler divergence from the standard normal (Rombach
    et al., 2022, without perceptual and adversarial losses), of `(B, H, W, C)`.

    Args:
        vae: The `AutoencoderKL` to train.
        kl_weight: Weight of the divergence, a mean over the latent's elements.
        seed: Seed of the posterior samples.

    Example:
    ```python
    vae = AutoencoderKL(block_channels=(32, 64), layers_per_block=1)
    model = ImageAutoencoding(vae, seed=0)
    model.compile(optimizer="adam")
    model.fit(keras.random.uniform((8, 16, 16, 3), -1.0, 1.0), verbose=0)
    ```
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        kl_weight: float = 1e-4,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(seed, **{"dtype": vae.dtype_policy, **kwargs})
        self.vae = vae
        self.kl_weight = kl_weight
        # A preset may come from a training in which it was frozen.
        vae.trainable = True
        self.built = True

    def call(self, images) -> dict[str, Tensor]:
        """Return the loss's parts: `reconstruction` error and `divergence`."""
        images = ops.cast(images, "float32")
        mean, log_variance = self.vae.posterior(images)
        noise = keras.random.normal(
            ops.shape(mean), dtype="float32", seed=self.seed_generator
        )
        latents = mean + ops.exp(0.5 * log_variance) * noise
        outputs = self.vae.decode(latents * self.vae.scaling_factor)
        error = ops.cast(outputs, "float32") - images
        variance = ops.exp(log_variance)
        return {
            "reconstruction": ops.mean(ops.square(error)),
            "divergence": 0.5
            * ops.mean(ops.square(mean) + variance - 1.0 - log_variance),
        }

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ) -> Tensor:
        return y_pred["reconstruction"] + self.kl_weight * y_pred["divergence"]


def with_unit_latents(vae: AutoencoderKL, loader: BatchLoader) -> AutoencoderKL:
    """The same VAE, whose `scaling_factor` is one over the deviation of its latents."""
    steps = -(-_IMAGES // loader.batch_size)
    latents = [
        vae.encode_video(loader.batch(step)["images"], chunk_size=loader.batch_size)
        for step in range(steps)
    ]
    deviation = float(np.std(np.concatenate(latents), dtype="float64"))
    config = {**vae.get_config(), "scaling_factor": vae.scaling_factor / deviation}
    scaled = type(vae).from_config(config)
    scaled.set_weights(vae.get_weights())
    return scaled
