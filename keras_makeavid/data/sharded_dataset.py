"""Reading a sharded dataset."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.data.json_files import read_id_list
from keras_makeavid.data.reader import LatentReader
from keras_makeavid.data.shard_index import (
    ClipEntry,
    TensorEntry,
    read_index,
    tensor_names,
)

FAILED_NAME = "failed_id_list.json"
# safetensors' names of the dtypes that a dataset may have.
_DTYPES = {"F32": "float32", "F16": "float16"}


class ShardedDataset(LatentReader):
    """A dataset of few large files: `index.json` beside safetensors shards.

    `index.json` holds `{"format", "version", "clips": [...]}` with a clip as

        {"id": "cat", "shard": "clips-00000.safetensors",
         "latents": {"dtype": "float32", "shape": [F, H, W, C], "sha256": "..."},
         "context": {"dtype": "float32", "shape": [L, D], "sha256": "..."},
         "metadata": {"caption": "a cat", ...}}

    and the shard the tensors `cat/latents`, not scaled, and `cat/context`. Ids in
    `failed_id_list.json`, if it is there, are left out. A window of a clip is read
    through a memory map, without the rest of the clip.

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
        self._shards: dict[str, Any] = {}
        for clip_id in self.ids:
            self._check_header(clip_id)

    def latents_shape(self, index: int) -> tuple[int, int, int, int]:
        return self.entries[self.ids[index]].latents.shape

    def context_shape(self, index: int) -> tuple[int, int]:
        return self.entries[self.ids[index]].context.shape

    def _read_latents(self, index: int, start: int, stop: int) -> np.ndarray:
        clip_id = self.ids[index]
        return self._tensor(clip_id, tensor_names(clip_id)[0])[start:stop]

    def context(self, index: int) -> np.ndarray:
        clip_id = self.ids[index]
        return self._tensor(clip_id, tensor_names(clip_id)[1])[:]

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

    def __getstate__(self):
        # Maps of files stay in this process; another opens its own.
        return {**self.__dict__, "_shards": {}}

    def _check_header(self, clip_id):
        entry = self.entries[clip_id]
        for name, expected in zip(
            tensor_names(clip_id), (entry.latents, entry.context), strict=True
        ):
            tensor = self._tensor(clip_id, name)
            dtype, shape = tensor.get_dtype(), tuple(tensor.get_shape())
            if (_DTYPES.get(dtype), shape) != (expected.dtype, expected.shape):
                raise ValueError(
                    f"Clip {clip_id}: by the index its tensor {name} is "
                    f"{expected.dtype} {expected.shape}, in {entry.shard} it is "
                    f"{dtype} {shape}"
                )

    def _tensor(self, clip_id, name):
        """A tensor of a shard, of which nothing is read before it is sliced."""
        shard = self.entries[clip_id].shard
        if shard not in self._shards:
            self._shards[shard] = open_shard(self.folder / shard)
        try:
            return self._shards[shard].get_slice(name)
        except Exception as error:
            raise ValueError(
                f"Clip {clip_id}: {self.folder / shard} has no tensor {name}"
            ) from error


def open_shard(path: Path) -> Any:
    """Map a safetensors file.

    Args:
        path: the file.

    Returns:
        What `safetensors.safe_open` returns.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"The dataset lacks {path}")
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def tensor_entry(array: np.ndarray) -> TensorEntry:
    """What the index says of an array."""
    return TensorEntry(array.dtype.name, array.shape, sha256_of(array))


def sha256_of(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes, little-endian and in C order."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(array.reshape(-1).view("uint8")).hexdigest()
