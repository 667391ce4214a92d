"""The scale of an autoencoder's latents."""

from __future__ import annotations

import numpy as np

from keras_makeavid.data.batch_loader import BatchLoader
from keras_makeavid.models import AutoencoderKL

_IMAGES = 1024


def with_unit_latents(vae: AutoencoderKL, loader: BatchLoader) -> AutoencoderKL:
    """A VAE of the same weights whose latents have unit variance, where noise is added.

    As `scaling_factor` of Stable Diffusion was found: one over the standard deviation
    of all latents of some images.

    Args:
        vae: that is trained.
        loader: of images like those it was trained on.

    Example:
    ```python
    from keras_makeavid.data import PictureLoader
    from keras_makeavid.moving_shapes import MotionClips

    vae = AutoencoderKL(block_channels=(32, 64), layers_per_block=1)
    loader = PictureLoader(MotionClips(size=16), batch_size=64, samples_per_epoch=64)
    with_unit_latents(vae, loader).scaling_factor
    ```
    """
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
