"""Batches of pictures for training, through Grain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from keras_makeavid.data.batch_loader import BatchLoader


class PictureSource(Protocol):
    """Captioned pictures by number, such as `MotionClips`."""

    def images(
        self, indices: Sequence[int], moment: float | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Pictures uint8 `(B, H, W, 3)`, and B captions.

        Args:
            indices: their numbers, from 0 and without end.
            moment: of the clips that they are of, from 0, the first frame, to 1;
                `None` draws one for each.
        """
        ...


class PictureLoader(BatchLoader):
    """Batches of pictures, and of their captions as token ids.

    A batch is a function of the source and its step only. No picture comes twice.

    Args:
        source: of the pictures.
        tokenize: turns a list of captions into token ids `(B, L)`; `None` leaves
            captions out.
        moment: as for `source.images`.
        **kwargs: see `BatchLoader`.

    Example:
        ```python
        loader = PictureLoader(MotionClips(), batch_size=32, samples_per_epoch=6400)
        loader.batch(0)["images"].shape  # (32, 64, 64, 3)
        ```
    """

    def __init__(
        self,
        source: PictureSource,
        tokenize: Callable[[list[str]], np.ndarray] | None = None,
        moment: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._source = source
        self._tokenize = tokenize
        self._moment = moment

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Make this shard's part of a batch.

        Args:
            step: number of the batch, from 0 on through all epochs.

        Returns:
            A dict of `images`, float32 `(B, H, W, 3)` in [-1, 1], and `token_ids`,
            int32 `(B, L)`, if there is a `tokenize`.
        """
        images, captions = self._source.images(self.samples_of(step), self._moment)
        batch = {"images": images.astype("float32") / 127.5 - 1.0}
        if self._tokenize is not None:
            batch["token_ids"] = np.asarray(self._tokenize(captions), "int32")
        return batch
