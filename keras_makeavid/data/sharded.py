"""The layout of few large files: safetensors shards, and an index of what is where."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
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
FORMAT = "keras-makeavid latents"
VERSION = 1

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
        # What a reader checks.
        dtype: Any = array.dtype.name
        shape: Any = array.shape
        return cls(dtype, shape, sha256)


class ClipEntry(msgspec.Struct, frozen=True):
    """What the index says of a clip."""

    id: Annotated[str, msgspec.Meta(pattern=rf"^{reader.CLIP_ID}\Z")]
    # A file of the folder itself, so no path.
    shard: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,100}\.safetensors\Z")]
    latents: TensorEntry[tuple[_Size, _Size, _Size, _Size]]
    context: TensorEntry[tuple[_Size, _Size]]
    metadata: dict[str, Any]

    @classmethod
    def of(cls, clip: reader.LatentClip, shard: str) -> ClipEntry:
        tensors = TensorEntry.of(clip.latents), TensorEntry.of(clip.context)
        return cls(clip.id, shard, *tensors, clip.metadata)


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
    packed into one, in their order: a run that was stopped leaves the same files.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        half: bool = False,
        shard_bytes: int = SHARD_BYTES,
    ):
        self._folder = Path(folder)
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
        # What the next shard will hold, and the sizes: the last is filled up first.
        self._queue = self._clips_of_open_shard()

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
            tensors, _ = _open_shard(self._staged(clip_id))
            # In its new place, if an older clip of the id was to be packed again.
            self._queue.pop(clip_id, None)
            self._queue[clip_id] = sum(array.nbytes for array in tensors.values())
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
        if any(self._staged(clip_id).is_file() for clip_id in self._queue):
            self._pack_queue()
        clips = Counter(entry.shard for entry in self._entries.values())
        for shard, count in clips.items():
            tensors, _ = _open_shard(self._folder / shard)
            # Of clips that were removed or replaced, which would stay for ever.
            if len(tensors) > 2 * count:
                self._pack([i for i, e in self._entries.items() if e.shard == shard])
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

    def _clips_of_open_shard(self) -> dict[str, int]:
        """Ids and sizes of the clips of the last shard, if it is not full."""
        if not self._entries:
            return {}
        last = max(entry.shard for entry in self._entries.values())
        tensors, _ = _open_shard(self._folder / last)
        sizes = {
            clip_id: sum(tensors[name].nbytes for name in _tensor_names(clip_id))
            for clip_id, entry in self._entries.items()
            if entry.shard == last
        }
        return sizes if sum(sizes.values()) < self._shard_bytes else {}

    def _pack_queue(self) -> None:
        self._pack(list(self._queue))
        self._queue.clear()

    def _pack(self, clip_ids: list[str]) -> None:
        """Make a shard of clips that are staged, or in other shards."""
        number = 1 + max((_number(e.shard) for e in self._entries.values()), default=-1)
        shard = f"clips-{number:05}.safetensors"
        clips = [self._read(clip_id) for clip_id in clip_ids]
        packed = {clip.id: ClipEntry.of(clip, shard) for clip in clips}
        for clip_id in clip_ids:
            if not self._staged(clip_id).is_file():
                # Damage must not be packed with a checksum that declares it right.
                before = self._entries[clip_id]
                if packed[clip_id] != msgspec.structs.replace(before, shard=shard):
                    raise ValueError(
                        f"Clip {clip_id} is damaged in {before.shard}: `makeavid "
                        "dataset check` tells which clips are, and can leave them out"
                    )
        _save(self._folder / shard, clips)
        self._entries |= packed
        self._write_index()
        for clip_id in clip_ids:
            self._staged(clip_id).unlink(missing_ok=True)

    def _write_index(self) -> None:
        clips = msgspec.to_builtins(list(self._entries.values()))
        index = {"format": FORMAT, "version": VERSION, "clips": clips}
        write_json(self._folder / INDEX_NAME, index)

    def _read(self, clip_id: str) -> reader.LatentClip:
        staged = self._staged(clip_id)
        if staged.is_file():
            tensors, header = _open_shard(staged)
            metadata = parse_json(header["metadata"], staged)
        else:
            entry = self._entries[clip_id]
            tensors, _ = _open_shard(self._folder / entry.shard)
            metadata = entry.metadata
        latents, context = (tensors[name].read() for name in _tensor_names(clip_id))
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
    index = read_json(path, _MAX_INDEX_BYTES)
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"{path} is no index of a latent dataset: {index!r:.80}")
    if index.get("version") != VERSION:
        problem = f"{path} is of version {index.get('version')!r:.20}"
        raise ValueError(f"{problem}; this program reads version {VERSION}")
    clips = index.get("clips")
    if not isinstance(clips, list):
        raise ValueError(f"{path}: clips must be a list. Received: {clips!r:.80}")
    entries: dict[str, ClipEntry] = {}
    for number, clip in enumerate(clips):
        try:
            entry = msgspec.convert(clip, ClipEntry)
        except msgspec.ValidationError as error:
            name = clip.get("id", number) if isinstance(clip, dict) else number
            expected = f"{path}, clip {name!s:.200}: {error}"
            raise ValueError(f"{expected}. Received: {clip!r:.300}") from error
        if entry.id in entries:
            raise ValueError(f"{path} has two clips of the id {entry.id}")
        entries[entry.id] = entry
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
