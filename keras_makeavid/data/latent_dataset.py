"""Batches of latent windows for `fit`."""

from __future__ import annotations

import os

import keras
import numpy as np

from keras_makeavid.data.latent_loader import LATENT_SCALE, LatentLoader


class LatentDataset(keras.utils.PyDataset):
    """The batches of a `LatentLoader` as `fit` takes them, epoch after epoch.

    Args:
        folder: dataset folder.
        batch_size: number of windows in a batch.
        num_frames: length of a window.
        samples_per_epoch: windows in an epoch; `None` is one of each clip.
        seed: of the order and of the windows.
        scale: what the stored latents are multiplied by.
        **kwargs: see `keras.utils.PyDataset`.

    Raises:
        ValueError: see `LatentLoader`.

    Example:
        ```python
        # Without it Keras would shuffle the batches, from another seed.
        model.fit(LatentDataset("dataset", batch_size=4), shuffle=False)
        ```
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        batch_size: int = 1,
        num_frames: int = 24,
        samples_per_epoch: int | None = None,
        seed: int = 0,
        scale: float = LATENT_SCALE,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._loader = LatentLoader(
            folder,
            batch_size=batch_size,
            num_frames=num_frames,
            samples_per_epoch=samples_per_epoch,
            seed=seed,
            scale=scale,
        )
        self._epoch = 0

    def __len__(self) -> int:
        return self._loader.steps_per_epoch

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        """Batch `index` of this epoch.

        Returns:
            A tuple of one dict: `latents` float16 `(B, F, H, W, C)` and `context`
            float16 `(B, L, D)`.
        """
        return (self._loader.batch(self._epoch * len(self) + index),)

    def on_epoch_end(self) -> None:
        self._epoch += 1
