"""The layout of few large files: safetensors shards, and an index of what is where."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import numpy as np

from keras_makeavid.data import reader
from keras_makeavid.files import problem_of, remove_leftovers, written_aside
from keras_makeavid.json_files import parse_json, read_json, write_json

INDEX_NAME = "index.json"
STAGED_FOLDER = ".staged"
SHARD_BYTES = 2**30

# A clip takes about a kilobyte: an index of a million clips is within it.
_MAX_INDEX_BYTES = 2**31
# By safetensors' names; little-endian, whatever machine reads them.
_DTYPES: dict[str, np.dtype] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}

_Size = Annotated[int, msgspec.Meta(gt=0)]
_Shape = TypeVar("_Shape")


class TensorEntry(msgspec.Struct, Generic[_Shape], frozen=True):
    """What the index says of a tensor."""

    dtype: Literal["float32", "float16"]
    shape: _Shape
    # Of its bytes, little-endian and in C order.
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]

    @classmethod
    def of(cls, array: np.ndarray) -> TensorEntry:
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        sha256 = hashlib.sha256(plain.reshape(-1).view("uint8").data).hexdigest()
        # A reader checks both.
        return cls(array.dtype.name, array.shape, sha256)  # type: ignore[arg-type]


class ClipEntry(msgspec.Struct, frozen=True):
    """What the index says of a clip."""

    id: reader.ClipId
    # A file of the folder itself, so no path.
    shard: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,100}\.safetensors\Z")]
    latents: TensorEntry[tuple[_Size, _Size, _Size, _Size]]
    context: TensorEntry[tuple[_Size, _Size]]
    metadata: dict[str, Any]

    @classmethod
    def of(cls, clip: reader.LatentClip, shard: str) -> ClipEntry:
        tensors = TensorEntry.of(clip.latents), TensorEntry.of(clip.context)
        return cls(clip.id, shard, *tensors, clip.metadata)


class Index(msgspec.Struct, frozen=True):
    """What `index.json` holds."""

    format: Literal["keras-makeavid latents"]
    version: Literal[1]
    clips: list[ClipEntry]


class ShardedReader(reader.LatentReader):
    """A dataset of few large files: `index.json` beside safetensors shards.

    The index tells where the tensors `ID/latents` and `ID/context` of each clip lie, as
    docs/data.md shows. A window of a clip is read without the rest of it. Arguments,
    attributes and errors are as for `LatentReader`; `entries` tells of each clip by id.
    """

    def metadata(self, index: int) -> dict[str, Any]:
        return self.entries[self.ids[index]].metadata

    def check(self, index: int) -> reader.LatentClip:
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
        self._shards: dict[str, dict[str, reader.StoredArray]] = {}
        return list(self.entries)

    def _clip_arrays(
        self, clip_id: str
    ) -> tuple[reader.StoredArray, reader.StoredArray]:
        entry = self.entries[clip_id]
        if entry.shard not in self._shards:
            self._shards[entry.shard], _ = _open_shard(self.folder / entry.shard)
        tensors = self._shards[entry.shard]
        names = _tensor_names(clip_id)
        described: list[TensorEntry] = [entry.latents, entry.context]
        for name, expected in zip(names, described, strict=True):
            if name not in tensors:
                raise ValueError(f"Clip {clip_id}: {entry.shard} has no tensor {name}")
            found = tensors[name]
            if (found.dtype.name, found.shape) != (expected.dtype, expected.shape):
                raise ValueError(
                    f"Clip {clip_id}: by the index its tensor {name} is "
                    f"{expected.dtype} {expected.shape}, in {entry.shard} it is "
                    f"{found.dtype} {found.shape}"
                )
        return tensors[names[0]], tensors[names[1]]


class ShardedWriter:
    """Makes or continues a sharded dataset.

    Each clip is first a file of its own in `.staged`; when these fill a shard they are
    packed into one, in their order: a run that was stopped leaves the same files. What
    was given to `add` survives the end of the process at any moment; after `finish` the
    dataset can be read. `stored` holds the metadata of each whole clip.

    Args:
        folder: The dataset's folder, made if missing.
        half: Store float16 instead of float32.
        shard_bytes: Least size of each file but the last that a run writes.

    Raises:
        ValueError: The index is malformed, or the folder holds a published dataset.

    Example:
    ```python
    writer = ShardedWriter("dataset", half=True)
    writer.add(LatentClip("cat", latents, context, {"caption": "a cat"}))
    writer.finish()
    ```
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        half: bool = False,
        shard_bytes: int = SHARD_BYTES,
    ):
        self._folder = Path(folder)
        if (self._folder / "data" / "videos").exists():
            problem = f"{folder} holds a dataset of the published layout"
            raise ValueError(f"{problem}: convert it, or choose another folder")
        self._staging = self._folder / STAGED_FOLDER
        self._dtype = "float16" if half else "float32"
        self._shard_bytes = shard_bytes
        self._failed_id_list = self._folder / ShardedReader.FAILED_ID_LIST
        self._failed = dict.fromkeys(reader.read_ids(self._failed_id_list))
        self._entries = self._read_entries()
        self._staging.mkdir(parents=True, exist_ok=True)
        for written in (self._folder, self._staging):
            remove_leftovers(written)
        self.stored: dict[str, dict[str, Any]] = {
            clip_id: entry.metadata
            for clip_id, entry in self._entries.items()
            if entry.latents.dtype == self._dtype
        }
        self.stored |= self._read_staged()
        # What the next shard will hold, and the sizes.
        self._queue: dict[str, int] = {}

    def add(self, clip: reader.LatentClip) -> None:
        """Write a clip, in place of one of the same id."""
        stored = replace(
            clip,
            latents=np.ascontiguousarray(clip.latents, self._dtype),
            context=np.ascontiguousarray(clip.context, self._dtype),
        )
        _save(self._staged(clip.id), [stored], {"metadata": json.dumps(clip.metadata)})
        self.stored[clip.id] = clip.metadata
        self._failed.pop(clip.id, None)
        self.keep(clip.id)

    def keep(self, clip_id: str) -> None:
        """Say that a stored clip is as it should be."""
        if self._staged(clip_id).is_file():
            self._queue[clip_id] = self._staged(clip_id).stat().st_size
            if sum(self._queue.values()) >= self._shard_bytes:
                self._pack_queue()

    def remove(self, clip_id: str) -> None:
        """Take a clip out of the dataset, if it is there."""
        self._staged(clip_id).unlink(missing_ok=True)
        self._queue.pop(clip_id, None)
        self.stored.pop(clip_id, None)
        self._entries.pop(clip_id, None)

    def finish(self) -> None:
        """Bring the index up to date."""
        if self._queue:
            self._pack_queue()
        self._write_index()
        write_json(self._failed_id_list, list(self._failed))
        used = {entry.shard for entry in self._entries.values()}
        for path in self._folder.glob("clips-[0-9]*.safetensors"):
            if path.name not in used:
                path.unlink()
        if not any(self._staging.iterdir()):
            self._staging.rmdir()

    def _staged(self, clip_id: str) -> Path:
        return self._staging / f"{clip_id}.safetensors"

    def _read_entries(self) -> dict[str, ClipEntry]:
        """The index, without clips that are damaged and on the list of failed ones."""
        if not (self._folder / INDEX_NAME).is_file():
            return {}
        entries = ShardedReader(self._folder).entries
        damaged = ShardedReader(self._folder, self._failed, {}).find_damage()
        return {i: entry for i, entry in entries.items() if i not in damaged}

    def _read_staged(self) -> dict[str, dict[str, Any]]:
        """Metadata of the clips that a run which was stopped has left."""
        found = {}
        for path in sorted(self._staging.glob("*.safetensors")):
            try:
                clip = self._read(path.stem)
                entry = self._entries.get(clip.id)
                packed = entry and ClipEntry.of(clip, entry.shard) == entry
            except Exception:
                # No such file was written here, or a disk lost some of it.
                continue
            if packed:
                # Stopped between the index and the end of the staged file.
                path.unlink()
            elif clip.latents.dtype == self._dtype:
                found[clip.id] = clip.metadata
        return found

    def _pack_queue(self) -> None:
        """Make a shard of the staged clips of the queue."""
        number = 1 + max((_number(e.shard) for e in self._entries.values()), default=-1)
        shard = f"clips-{number:05}.safetensors"
        clips = [self._read(clip_id) for clip_id in self._queue]
        _save(self._folder / shard, clips)
        self._entries |= {clip.id: ClipEntry.of(clip, shard) for clip in clips}
        self._write_index()
        for clip_id in self._queue:
            self._staged(clip_id).unlink()
        self._queue.clear()

    def _write_index(self) -> None:
        index = Index("keras-makeavid latents", 1, list(self._entries.values()))
        write_json(self._folder / INDEX_NAME, msgspec.to_builtins(index))

    def _read(self, clip_id: str) -> reader.LatentClip:
        staged = self._staged(clip_id)
        tensors, header = _open_shard(staged)
        latents, context = (tensors[name].read() for name in _tensor_names(clip_id))
        metadata = parse_json(header["metadata"], staged)
        return reader.LatentClip(clip_id, latents, context, metadata)


def _tensor_names(clip_id: str) -> tuple[str, str]:
    """Names of a clip's latents and text states in its shard."""
    return f"{clip_id}/latents", f"{clip_id}/context"


def _open_shard(path: Path) -> tuple[dict[str, reader.StoredArray], dict[str, str]]:
    """Look at the header of a safetensors file: its tensors by name, and metadata."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"The dataset lacks {path}")
    tensors = {}
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            # From the end: opening has checked that the tensors leave no gap.
            offset = path.stat().st_size
            for name in reversed(file.offset_keys()):
                tensor = file.get_slice(name)
                dtype = _DTYPES.get(tensor.get_dtype())
                if dtype is None:
                    expected = f"{name} must be F32 or F16"
                    raise ValueError(f"{expected}. Received: {tensor.get_dtype()}")
                array = reader.StoredArray(path, dtype, tuple(tensor.get_shape()), 0)
                offset -= array.nbytes
                tensors[name] = reader.StoredArray(path, dtype, array.shape, offset)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} {problem_of(path, error)}") from error
    return tensors, metadata


def _read_index(folder: Path) -> dict[str, ClipEntry]:
    """Read the index of a dataset, as input that anyone may have written."""
    path = folder / INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no latent dataset: it has no {path}")
    try:
        index = msgspec.convert(read_json(path, _MAX_INDEX_BYTES), Index)
    except msgspec.ValidationError as error:
        problem = f"{path} is no index of a latent dataset that this version reads"
        raise ValueError(f"{problem}: {error}") from error
    entries = {entry.id: entry for entry in index.clips}
    if len(entries) < len(index.clips):
        raise ValueError(f"{path} has two clips of one id")
    return entries


def _save(
    path: Path, clips: list[reader.LatentClip], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    for clip in clips:
        latents, context = _tensor_names(clip.id)
        tensors |= {latents: clip.latents, context: clip.context}
    with written_aside(path) as aside:
        # Safetensors makes files for their owner alone: a new one shows the umask.
        aside.touch()
        mode = aside.stat().st_mode
        save_file(tensors, aside, metadata)
        aside.chmod(mode)


def _number(shard: str) -> int:
    """Number of a shard that this module has named; -1 of another."""
    number = shard.removeprefix("clips-").removesuffix(".safetensors")
    return int(number) if number.isdecimal() else -1
