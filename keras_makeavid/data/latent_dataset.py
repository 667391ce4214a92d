"""Batches of latent windows for `fit`; the loaders, apart, import no Keras."""

import os

import keras
import numpy as np

from keras_makeavid.data.loaders import LatentLoader
from keras_makeavid.data.reader import LatentReader


class LatentDataset(keras.utils.PyDataset):
    """The batches of a `LatentLoader` as `fit` takes them, epoch after epoch.

    It shuffles by its own seed, whatever Keras is told: each clip comes once an epoch,
    in a random window. Arguments and errors are those of `LatentLoader`.

    Attributes:
        epoch: Number of the epoch that `fit` takes next, from 0. Set it to go on in a
            new process; `TextToVideo.fit` sets it to `initial_epoch`.

    Example:
    ```python
    dataset = LatentDataset("dataset", num_frames=task.num_frames, batch_size=4)
    task.fit(dataset, epochs=10)
    ```
    """

    def __init__(self, source: str | os.PathLike | LatentReader, **kwargs: int):
        super().__init__()
        self._loader = LatentLoader(source, **kwargs)
        self.epoch = 0
        self._in_epoch = False
        self._turns: dict[int, int] = {}

    @property
    def reader(self) -> LatentReader:
        """The opened dataset."""
        return self._loader.reader

    def __len__(self) -> int:
        return self._loader.steps_per_epoch

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        """Read a batch of this epoch; in `fit`, in the order of asking."""
        if not 0 <= index < len(self):
            expected = f"index must be from 0 to {len(self) - 1}"
            raise IndexError(f"{expected}. Received: {index}")
        turn = index
        if self._in_epoch:
            turn = self._turns.setdefault(index, len(self._turns))
        return (self._loader.batch(self.epoch * len(self) + turn),)

    def on_epoch_begin(self) -> None:
        self._in_epoch = True
        self._turns.clear()

    def on_epoch_end(self) -> None:
        # Keras calls this before the first epoch, too.
        if self._in_epoch:
            self.epoch += 1
        self._in_epoch = False
