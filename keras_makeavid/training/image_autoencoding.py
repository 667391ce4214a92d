"""The training model of the VAE, and the scale of the latents that come of it."""

import keras
import numpy as np
from keras import ops

from keras_makeavid.data.loaders import BatchLoader
from keras_makeavid.models import AutoencoderKL
from keras_makeavid.tensor import Tensor
from keras_makeavid.training.training_model import ReportingModel

# Enough to know the scale of latents by.
_IMAGES = 1024


@keras.saving.register_keras_serializable(package="keras_makeavid")
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

    PARTS = ("vae",)
    SETTINGS = ("seed", "kl_weight")

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
