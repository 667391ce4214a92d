"""Reading a sharded dataset."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import numpy as np

from keras_makeavid.data.reader import LatentReader
from keras_makeavid.data.shard_file import open_shard, sha256_of
from keras_makeavid.data.shard_index import ClipEntry, read_index, tensor_names
from keras_makeavid.data.stored_array import StoredArray


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

    Arguments, attributes and errors are those of `LatentReader`.

    Example:
        ```python
        dataset = ShardedDataset("dataset")
        latents = dataset.latents(0, start=10, stop=34)  # (24, 64, 64, 4)
        ```
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        only: Collection[str] | None = None,
        damaged: dict[str, str] | None = None,
    ):
        self._headers: dict[str, dict[str, StoredArray]] = {}
        super().__init__(folder, only, damaged)
        # Each clip has what it needs of them.
        self._headers.clear()

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

    def _listed_ids(self) -> list[str]:
        self.entries: dict[str, ClipEntry] = read_index(self.folder)
        return list(self.entries)

    def _clip_arrays(self, clip_id: str) -> tuple[StoredArray, StoredArray]:
        entry = self.entries[clip_id]
        if entry.shard not in self._headers:
            self._headers[entry.shard], _ = open_shard(self.folder / entry.shard)
        latents, context = tensor_names(clip_id)
        return (
            self._checked(clip_id, latents, entry.latents),
            self._checked(clip_id, context, entry.context),
        )

    def _checked(self, clip_id, name, expected) -> StoredArray:
        """A tensor, if it is what the index says."""
        shard = self.entries[clip_id].shard
        array = self._headers[shard].get(name)
        if array is None:
            raise ValueError(f"Clip {clip_id}: {shard} has no tensor {name}")
        if (array.dtype.name, array.shape) != (expected.dtype, expected.shape):
            raise ValueError(
                f"Clip {clip_id}: by the index its tensor {name} is {expected.dtype} "
                f"{expected.shape}, in {shard} it is {array.dtype} {array.shape}"
            )
        return array
