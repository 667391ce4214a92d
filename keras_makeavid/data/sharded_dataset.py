"""Reading a sharded dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.data.json_files import read_id_list
from keras_makeavid.data.reader import LatentReader
from keras_makeavid.data.shard_file import open_shard, sha256_of
from keras_makeavid.data.shard_index import ClipEntry, read_index, tensor_names
from keras_makeavid.data.stored_array import StoredArray

FAILED_NAME = "failed_id_list.json"


class ShardedDataset(LatentReader):
    """A dataset of few large files: `index.json` beside safetensors shards.

    `index.json` holds `{"format", "version", "clips": [...]}` with a clip as

        {"id": "cat", "shard": "clips-00000.safetensors",
         "latents": {"dtype": "float32", "shape": [F, H, W, C], "sha256": "..."},
         "context": {"dtype": "float32", "shape": [L, D], "sha256": "..."},
         "metadata": {"caption": "a cat", ...}}

    and the shard the tensors `cat/latents`, not scaled, and `cat/context`. Ids in
    `failed_id_list.json`, if it is there, are left out. A window of a clip is read
    without the rest of it.

    Args:
        folder: dataset folder, which holds `index.json`.

    Raises:
        FileNotFoundError: if the index or a shard is missing.
        ValueError: if the index is malformed, or a shard is damaged or has other
            tensors than the index says; names the clip.

    Example:
        ```python
        dataset = ShardedDataset("dataset")
        latents = dataset.latents(0, start=10, stop=34)  # (24, 64, 64, 4)
        ```
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.failed_id_list = self.folder / FAILED_NAME
        self.entries: dict[str, ClipEntry] = read_index(self.folder)
        for clip_id in read_id_list(self.failed_id_list):
            self.entries.pop(clip_id, None)
        self.ids = list(self.entries)
        shards = {entry.shard for entry in self.entries.values()}
        opened = {shard: open_shard(self.folder / shard)[0] for shard in shards}
        self._arrays = [self._arrays_of(clip_id, opened) for clip_id in self.ids]

    def latents_shape(self, index: int) -> tuple[int, int, int, int]:
        return self._arrays[index][0].shape

    def context_shape(self, index: int) -> tuple[int, int]:
        return self._arrays[index][1].shape

    def _read_latents(self, index: int, start: int, stop: int) -> np.ndarray:
        return self._arrays[index][0].read(start, stop)

    def context(self, index: int) -> np.ndarray:
        return self._arrays[index][1].read()

    def metadata(self, index: int) -> dict[str, Any]:
        return self.entries[self.ids[index]].metadata

    def check(self, index: int) -> None:
        super().check(index)
        entry = self.entries[self.ids[index]]
        for name, array, expected in (
            ("latents", self.latents(index), entry.latents),
            ("text states", self.context(index), entry.context),
        ):
            if sha256_of(array) != expected.sha256:
                raise ValueError(
                    f"Clip {self.ids[index]}: the {name} in {entry.shard} are not "
                    "those that were written: their SHA-256 is another"
                )

    def _arrays_of(self, clip_id, opened) -> list[StoredArray]:
        """A clip's latents and text states, if they are what the index says."""
        entry = self.entries[clip_id]
        arrays = []
        for name, expected in zip(
            tensor_names(clip_id), (entry.latents, entry.context), strict=True
        ):
            array = opened[entry.shard].get(name)
            if array is None:
                raise ValueError(f"Clip {clip_id}: {entry.shard} has no tensor {name}")
            if (array.dtype.name, array.shape) != (expected.dtype, expected.shape):
                raise ValueError(
                    f"Clip {clip_id}: by the index its tensor {name} is "
                    f"{expected.dtype} {expected.shape}, in {entry.shard} it is "
                    f"{array.dtype} {array.shape}"
                )
            arrays.append(array)
        return arrays
