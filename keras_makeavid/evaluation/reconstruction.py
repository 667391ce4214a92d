"""What the VAE alone keeps of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_makeavid.data.motions import MotionClips
from keras_makeavid.evaluation.measure import psnr

if TYPE_CHECKING:
    from keras_makeavid.tasks import TextToVideo


def vae_psnr(task: TextToVideo, count: int = 128) -> float:
    """How well the VAE reconstructs pictures of triples held out of training.

    No video can be better than that.

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
    clips = MotionClips(split="held_out", size=min(task.height, task.width))
    images, _ = clips.images(range(count))
    latents = task.vae.encode_video(images, chunk_size=16)
    shown = task.vae.decode_video(latents, chunk_size=16)
    return float(np.mean([psnr(*pair) for pair in zip(images, shown, strict=True)]))
