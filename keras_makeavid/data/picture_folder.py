"""A folder of captioned pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_makeavid.data.captions import PICTURE_SUFFIXES, find_files, read_captions
from keras_makeavid.data.loaders import WindowSampler
from keras_makeavid.video.pictures import opened_picture, read_image


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
