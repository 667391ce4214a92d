"""Reading a dataset of few large files, and the index of what lies where in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import numpy as np

from keras_makeavid.data.reader import (
    CLIP_ID,
    LatentClip,
    LatentReader,
    StoredArray,
)
from keras_makeavid.json_files import read_json, write_json

INDEX_NAME = "index.json"
FORMAT = "keras-makeavid latents"
VERSION = 1

# A clip takes about a kilobyte: an index of a million clips is within it.
_MAX_INDEX_BYTES = 2**31
# By safetensors' names; little-endian, whatever machine reads them.
_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}

_Size = Annotated[int, msgspec.Meta(gt=0)]
_Shape = TypeVar("_Shape")


class TensorEntry(msgspec.Struct, Generic[_Shape], frozen=True):
    """A tensor of a clip.

    Args:
        dtype: `"float32"` or `"float16"`.
        shape: Its shape.
        sha256: SHA-256 of its bytes, little-endian and in C order, in hexadecimal.
    """

    dtype: Literal["float32", "float16"]
    shape: _Shape
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]

    @classmethod
    def of(cls, array: np.ndarray) -> TensorEntry:
        """Describe an array."""
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest = hashlib.sha256(plain.reshape(-1).view("uint8"))
        return cls(array.dtype.name, array.shape, digest.hexdigest())


class ClipEntry(msgspec.Struct, frozen=True):
    """A clip.

    Args:
        id: Name of the clip.
        shard: Name of the file that holds it: of the folder itself, so no path.
        latents: Tensor `(F, H, W, C)`, not scaled.
        context: Tensor `(L, D)` of text states.
        metadata: Caption, source and more.
    """

    id: Annotated[str, msgspec.Meta(pattern=rf"^{CLIP_ID}\Z")]
    shard: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,100}\.safetensors\Z")]
    latents: TensorEntry[tuple[_Size, _Size, _Size, _Size]]
    context: TensorEntry[tuple[_Size, _Size]]
    metadata: dict[str, Any]

    @classmethod
    def of(cls, clip: LatentClip, shard: str) -> ClipEntry:
        """Describe a clip that lies in a shard."""
        tensors = TensorEntry.of(clip.latents), TensorEntry.of(clip.context)
        return cls(clip.id, shard, *tensors, clip.metadata)


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

    Attributes:
        entries: What the index says of each clip, by its id.

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
        self._shards: dict[str, dict[str, StoredArray]] = {}
        super().__init__(folder, only, damaged)
        # Each clip has what it needs of them.
        self._shards.clear()

    def metadata(self, index: int) -> dict[str, Any]:
        return self.entries[self.ids[index]].metadata

    def check(self, index: int) -> LatentClip:
        clip = super().check(index)
        entry = self.entries[clip.id]
        for name, array, expected in (
            ("latents", clip.latents, entry.latents),
            ("text states", clip.context, entry.context),
        ):
            if TensorEntry.of(array) != expected:
                raise ValueError(
                    f"Clip {clip.id}: the {name} in {entry.shard} are not those that "
                    "were written: their SHA-256 is another"
                )
        return clip

    def _listed_ids(self) -> list[str]:
        self.entries = _read_index(self.folder)
        return list(self.entries)

    def _clip_arrays(self, clip_id: str) -> tuple[StoredArray, StoredArray]:
        entry = self.entries[clip_id]
        if entry.shard not in self._shards:
            self._shards[entry.shard], _ = open_shard(self.folder / entry.shard)
        latents, context = tensor_names(clip_id)
        return (
            self._checked(entry, latents, entry.latents),
            self._checked(entry, context, entry.context),
        )

    def _checked(
        self, entry: ClipEntry, name: str, expected: TensorEntry
    ) -> StoredArray:
        """A tensor, if it is what the index says."""
        array = self._shards[entry.shard].get(name)
        if array is None:
            raise ValueError(f"Clip {entry.id}: {entry.shard} has no tensor {name}")
        if (array.dtype.name, array.shape) != (expected.dtype, expected.shape):
            raise ValueError(
                f"Clip {entry.id}: by the index its tensor {name} is {expected.dtype} "
                f"{expected.shape}, in {entry.shard} it is {array.dtype} {array.shape}"
            )
        return array


def tensor_names(clip_id: str) -> tuple[str, str]:
    """Names of a clip's latents and text states in its shard."""
    return f"{clip_id}/latents", f"{clip_id}/context"


def open_shard(path: Path) -> tuple[dict[str, StoredArray], dict[str, str]]:
    """Look at the header of a safetensors file of float32 and float16.

    Args:
        path: The file.

    Returns:
        Its tensors by name, and its metadata.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is damaged, or holds tensors of another dtype.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"The dataset lacks {path}")
    tensors = {}
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            # From the end: opening has checked that tensors fill the rest of the file
            # without a gap.
            offset = path.stat().st_size
            for name in reversed(file.offset_keys()):
                tensor = file.get_slice(name)
                dtype = _DTYPES.get(tensor.get_dtype())
                if dtype is None:
                    raise ValueError(
                        f"{name} must be F32 or F16. Received: {tensor.get_dtype()}"
                    )
                array = StoredArray(path, dtype, tuple(tensor.get_shape()), 0)
                offset -= array.nbytes
                tensors[name] = StoredArray(path, dtype, array.shape, offset)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return tensors, metadata


def write_index(folder: Path, entries: Iterable[ClipEntry]) -> None:
    """Write the index of a dataset, whole or not at all.

    Args:
        folder: The dataset's folder.
        entries: Of the clips, in their order.
    """
    clips = msgspec.to_builtins(list(entries))
    index = {"format": FORMAT, "version": VERSION, "clips": clips}
    write_json(folder / INDEX_NAME, index)


def _read_index(folder: Path) -> dict[str, ClipEntry]:
    """Read the index of a dataset, as input that anyone may have written."""
    path = folder / INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no latent dataset: it has no {path}")
    index = read_json(path, _MAX_INDEX_BYTES)
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"{path} is no index of a latent dataset: {index!r:.80}")
    if index.get("version") != VERSION:
        raise ValueError(
            f"{path} is of version {index.get('version')!r:.20}; this program reads "
            f"version {VERSION}"
        )
    clips = index.get("clips")
    if not isinstance(clips, list):
        raise ValueError(f"{path}: clips must be a list. Received: {clips!r:.80}")
    entries: dict[str, ClipEntry] = {}
    for number, clip in enumerate(clips):
        try:
            entry = msgspec.convert(clip, ClipEntry)
        except msgspec.ValidationError as error:
            name = clip.get("id", number) if isinstance(clip, dict) else number
            raise ValueError(
                f"{path}, clip {name!s:.200}: {error}. Received: {clip!r:.300}"
            ) from error
        if entry.id in entries:
            raise ValueError(f"{path} has two clips of the id {entry.id}")
        entries[entry.id] = entry
    return entries
