"""Reading the published dataset layout, by memory map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.data.json_files import read_json
from keras_makeavid.data.published_layout import PublishedLayout
from keras_makeavid.data.reader import LatentReader


class PublishedDataset(LatentReader):
    """A dataset of the layout of `TempoFunk/tempofunk-sdance` (spec section 7).

    A window of a clip is read through a memory map, without the rest of the clip.

    Args:
        folder: dataset folder, which holds `data/`.

    Raises:
        FileNotFoundError: if the dataset or one of its files is missing.
        ValueError: if a clip is damaged, or a list malformed; names them.

    Example:
        ```python
        dataset = PublishedDataset("tempofunk-sdance")
        latents = dataset.latents(0, start=10, stop=34)  # (24, 64, 64, 4)
        ```
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self._layout = PublishedLayout(folder)
        self.failed_id_list = self._layout.failed_id_list
        self.ids = self._layout.read_ids()
        self._shapes = [self._checked_shapes(clip_id) for clip_id in self.ids]

    def latents_shape(self, index: int) -> tuple[int, int, int, int]:
        return self._shapes[index][0]

    def context_shape(self, index: int) -> tuple[int, int]:
        return self._shapes[index][1]

    def _read_latents(self, index: int, start: int, stop: int) -> np.ndarray:
        clip = _open(self._layout.video(self.ids[index]))
        return np.moveaxis(clip[start:stop], 1, -1)

    def context(self, index: int) -> np.ndarray:
        return _open(self._layout.prompt(self.ids[index]))[0]

    def metadata(self, index: int) -> dict[str, Any]:
        path = self._layout.metadata(self.ids[index])
        metadata = read_json(path) if path.is_file() else {}
        if not isinstance(metadata, dict):
            raise ValueError(f"{path} must hold an object. Received: {metadata!r:.80}")
        return metadata

    def _checked_shapes(self, clip_id):
        clip = _open(self._layout.video(clip_id))
        prompt = _open(self._layout.prompt(clip_id))
        if clip.ndim != 4 or prompt.ndim != 3 or prompt.shape[0] != 1:
            raise ValueError(
                f"Clip {clip_id} must have latents (F, C, H, W) and text states "
                f"(1, L, D). Received: {clip.shape} and {prompt.shape}"
            )
        frames, channels, height, width = clip.shape
        return (frames, height, width, channels), prompt.shape[1:]


def _open(path) -> np.ndarray:
    """Memory-map an array of numbers; its header is all that is read."""
    if not path.is_file():
        raise FileNotFoundError(f"The dataset lacks {path}")
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        # A damaged header makes NumPy fail with any of a dozen types of error.
        raise ValueError(f"{path} is damaged: {error}") from error
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{path} must hold floating-point numbers. Received: {array.dtype}"
        )
    return array
