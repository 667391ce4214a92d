"""Batches of pictures for training, drawn or of a folder, through Grain."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Protocol

import numpy as np

from keras_makeavid.data.batch_loader import BatchLoader, WindowSampler
from keras_makeavid.data.captions import PICTURE_SUFFIXES, find_files, read_captions
from keras_makeavid.video.pictures import opened_picture, read_image


class PictureSource(Protocol):
    """Captioned pictures by number, such as `MotionClips` or `PictureFolder`."""

    def images(
        self, indices: Sequence[int], moment: float | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Give pictures uint8 `(B, H, W, 3)`, and B captions.

        Args:
            indices: Their numbers, from 0 and without end.
            moment: From 0, the first frame of the clips that they are of, to 1. `None`
                draws one for each. What is no clip has no moments.
        """
        ...


class PictureFolder:
    """The pictures of a folder and of those inside it, with their captions.

    They come in passes, each in an order of its own: number `i` is a function of the
    seed and `i` only. Captions are found as by `read_captions`: a `.txt` file beside
    each picture, or a table.

    Args:
        folder: Folder of PNG, JPEG, WebP, GIF or BMP files.
        height: Rows to scale and crop to.
        width: Columns.
        seed: Seed of the orders.
        captioned: Whether the pictures have captions. Those of others are empty.

    Raises:
        FileNotFoundError: The folder is missing or holds no pictures.
        ValueError: Pictures have no caption, or are none. The text names them.

    Example:
    ```python
    pictures = PictureFolder("pictures", 512, 512)
    images, captions = pictures.images(range(4))  # uint8 (4, 512, 512, 3)
    ```
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        height: int,
        width: int,
        seed: int = 0,
        captioned: bool = True,
    ):
        if captioned:
            captions = read_captions(folder, suffixes=PICTURE_SUFFIXES)
        else:
            captions = dict.fromkeys(find_files(folder, PICTURE_SUFFIXES), "")
        if not captions:
            raise FileNotFoundError(
                f"There are no pictures ({', '.join(PICTURE_SUFFIXES)}) in {folder}"
            )
        broken = [str(path) for path in captions if not _begins_a_picture(path)]
        if broken:
            raise ValueError(
                f"{len(broken)} files must be pictures, by what they begin with. "
                f"Received: {', '.join(broken[:10])}"
            )
        self._pairs = list(captions.items())
        self._size = height, width
        self._sampler = WindowSampler([1] * len(self._pairs), seed)

    def __len__(self) -> int:
        return len(self._pairs)

    def images(
        self, indices: Sequence[int], moment: float | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Read pictures by their numbers, from 0 and without end.

        Returns:
            uint8 `(B, H, W, 3)`, scaled to cover and cropped, and B captions.

        Raises:
            ValueError: A file is damaged. The text names it.
        """
        pairs = [self._pairs[self._sampler[index][0]] for index in indices]
        images = [read_image(path, *self._size) for path, _ in pairs]
        return np.stack(images), [caption for _, caption in pairs]


def _begins_a_picture(path: Path) -> bool:
    try:
        with opened_picture(path):
            return True
    except (ValueError, OSError):
        return False


class PictureLoader(BatchLoader):
    """Batches of pictures, and of their captions as token ids.

    A batch is a function of the source and its step only.

    Args:
        source: The pictures.
        tokenize: Turns a list of captions into token ids `(B, L)`. `None` leaves
            captions out.
        moment: As for `source.images`.
        samples_per_epoch: Pictures in an epoch. `None` is one of each picture of the
            source; one that draws without end needs a number.
        **kwargs: See `BatchLoader`.

    Raises:
        ValueError: There is no number, and the source is without end.

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
        samples_per_epoch: int | None = None,
        **kwargs,
    ):
        if samples_per_epoch is None:
            if not isinstance(source, Sized):
                raise ValueError(
                    "samples_per_epoch must be given for a source without end. "
                    f"Received: {source!r}"
                )
            samples_per_epoch = len(source)
        super().__init__(samples_per_epoch=samples_per_epoch, **kwargs)
        self._source = source
        self._tokenize = tokenize
        self._moment = moment

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Make this shard's part of batch `step`, from 0 on through all epochs.

        Returns:
            A dict of `images`, float32 `(B, H, W, 3)` in [-1, 1], and `token_ids`,
            int32 `(B, L)`, if there is a `tokenize`.
        """
        images, captions = self._source.images(self.samples_of(step), self._moment)
        batch = {"images": images.astype("float32") / 127.5 - 1.0}
        if self._tokenize is not None:
            batch["token_ids"] = np.asarray(self._tokenize(captions), "int32")
        return batch
