"""What the VAE alone keeps of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_makeavid.data.motions import MotionClips
from keras_makeavid.evaluation.measure import psnr

if TYPE_CHECKING:
    from keras_makeavid.tasks import TextToVideo

# One of Stable Diffusion's pictures, or several smaller ones.
_PIXELS_AT_ONCE = 2**16


def vae_psnr(task: TextToVideo, count: int = 128) -> float:
    """How well the VAE reconstructs pictures of triples held out of training.

    It bounds how true to detail videos can be.

    Args:
        task: the model.
        count: pictures.

    Returns:
        Mean peak signal-to-noise ratio in dB.

    Example:
    ```python
    vae_psnr(keras_makeavid.TextToVideo.from_preset("makeavid_motions_small"))
    ```
    """
    size = min(task.height, task.width)
    images, _ = MotionClips(split="held_out", size=size).images(range(count))
    at_once = max(1, _PIXELS_AT_ONCE // size**2)
    latents = task.vae.encode_video(images, chunk_size=at_once)
    shown = task.vae.decode_video(latents, chunk_size=at_once)
    return float(np.mean([psnr(*pair) for pair in zip(images, shown, strict=True)]))
