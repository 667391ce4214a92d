"""Reading the published dataset layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_makeavid.data.json_files import read_json
from keras_makeavid.data.published_layout import PublishedLayout
from keras_makeavid.data.reader import LatentReader
from keras_makeavid.data.stored_array import StoredArray


class PublishedDataset(LatentReader):
    """A dataset of the layout of `TempoFunk/tempofunk-sdance` (spec section 7).

    A window of a clip is read without the rest of it.

    Arguments, attributes and errors are those of `LatentReader`; the folder holds
    `data/`.

    Example:
        ```python
        dataset = PublishedDataset("tempofunk-sdance")
        latents = dataset.latents(0, start=10, stop=34)  # (24, 64, 64, 4)
        ```
    """

    _failed_name = "data/failed_id_list.json"

    def latents_shape(self, index: int) -> tuple[int, int, int, int]:
        frames, channels, height, width = self._arrays[index][0].shape
        return frames, height, width, channels

    def context_shape(self, index: int) -> tuple[int, int]:
        return self._arrays[index][1].shape[1:]

    def _read_latents(self, index: int, start: int, stop: int) -> np.ndarray:
        return np.moveaxis(self._arrays[index][0].read(start, stop), 1, -1)

    def context(self, index: int) -> np.ndarray:
        return self._arrays[index][1].read()[0]

    def metadata(self, index: int) -> dict[str, Any]:
        path = PublishedLayout(self.folder).metadata(self.ids[index])
        metadata = read_json(path) if path.is_file() else {}
        if not isinstance(metadata, dict):
            raise ValueError(f"{path} must hold an object. Received: {metadata!r:.80}")
        return metadata

    def _listed_ids(self) -> list[str]:
        return PublishedLayout(self.folder).read_ids()

    def _clip_arrays(self, clip_id: str) -> tuple[StoredArray, StoredArray]:
        layout = PublishedLayout(self.folder)
        clip = _stored(layout.video(clip_id))
        prompt = _stored(layout.prompt(clip_id))
        if len(clip.shape) != 4 or len(prompt.shape) != 3 or prompt.shape[0] != 1:
            raise ValueError(
                f"Clip {clip_id} must have latents (F, C, H, W) and text states "
                f"(1, L, D). Received: {clip.shape} and {prompt.shape}"
            )
        return clip, prompt


def _stored(path) -> StoredArray:
    """An array of numbers in a file, of which only the header is read."""
    if not path.is_file():
        raise FileNotFoundError(f"The dataset lacks {path}")
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        # A damaged header makes NumPy fail with any of a dozen types of error.
        raise ValueError(f"{path} is damaged: {error}") from error
    if not np.issubdtype(array.dtype, np.floating) or not array.flags.c_contiguous:
        raise ValueError(
            f"{path} must hold floating-point numbers in C order. Received: "
            f"{array.dtype}{'' if array.flags.c_contiguous else ' in Fortran order'}"
        )
    return StoredArray(path, array.dtype, array.shape, array.offset)
