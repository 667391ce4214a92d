"""Writing a dataset of few large files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.data.reader import LatentClip, read_ids
from keras_makeavid.data.sharded import (
    INDEX_NAME,
    ClipEntry,
    ShardedDataset,
    open_shard,
    tensor_names,
    write_index,
)
from keras_makeavid.files import remove_leftovers, written_aside
from keras_makeavid.json_files import parse_json, write_json

SHARD_BYTES = 2**30
STAGED_FOLDER = ".staged"


class ShardedWriter:
    """Makes or continues a sharded dataset.

    Each clip is first a file of its own in `.staged`; when these
    fill a shard they are packed into one, in the order in which they were added. So a
    run that was stopped and went on leaves the same files as one that was not.

    Args:
        folder: Dataset folder, made if missing.
        half: Store float16 instead of float32. Clips stored otherwise are not among
            `stored`.
        shard_bytes: Size at which a shard is full.

    Attributes:
        stored: Metadata of each whole clip that the dataset has.

    Raises:
        ValueError: Its index or list is malformed, or clips that are not on the list
            of failed ones are damaged.

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
        self._staging = self._folder / STAGED_FOLDER
        self._dtype = "float16" if half else "float32"
        self._shard_bytes = shard_bytes
        self._failed_id_list = self._folder / ShardedDataset.FAILED_ID_LIST
        self._failed = dict.fromkeys(read_ids(self._failed_id_list))
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
        # What the next shard will hold, and the sizes: the last shard is filled up if
        # it is not full.
        self._queue = self._clips_of_open_shard()
        self._queued_bytes = sum(self._queue.values())

    def add(self, clip: LatentClip) -> None:
        """Write a clip, in place of one of the same id."""
        tensors = {
            "latents": np.ascontiguousarray(clip.latents, self._dtype),
            "context": np.ascontiguousarray(clip.context, self._dtype),
        }
        metadata = {"metadata": json.dumps(clip.metadata)}
        _save(self._staged(clip.id), tensors, metadata)
        self.stored[clip.id] = clip.metadata
        self._failed.pop(clip.id, None)
        self.keep(clip.id)

    def keep(self, clip_id: str) -> None:
        """Say that a stored clip is as it should be."""
        if self._staged(clip_id).is_file():
            tensors, _ = open_shard(self._staged(clip_id))
            # In its new place, if an older clip of the id was to be packed again.
            self._dequeue(clip_id)
            self._queue[clip_id] = sum(array.nbytes for array in tensors.values())
            self._queued_bytes += self._queue[clip_id]
            if self._queued_bytes >= self._shard_bytes:
                self._pack_queue()

    def remove(self, clip_id: str) -> None:
        """Take a clip out of the dataset, if it is there."""
        self._staged(clip_id).unlink(missing_ok=True)
        self._dequeue(clip_id)
        self.stored.pop(clip_id, None)
        self._entries.pop(clip_id, None)

    def finish(self) -> None:
        """Bring the index up to date."""
        if any(self._staged(clip_id).is_file() for clip_id in self._queue):
            self._pack_queue()
        self._pack_again_what_has_leftovers()
        write_index(self._folder, self._entries.values())
        write_json(self._failed_id_list, list(self._failed))
        used = {entry.shard for entry in self._entries.values()}
        for shard in self._folder.glob("clips-[0-9]*.safetensors"):
            if shard.name not in used:
                shard.unlink()
        if not any(self._staging.iterdir()):
            self._staging.rmdir()

    def _dequeue(self, clip_id: str) -> None:
        self._queued_bytes -= self._queue.pop(clip_id, 0)

    def _staged(self, clip_id: str) -> Path:
        return self._staging / f"{clip_id}.safetensors"

    def _read_entries(self) -> dict[str, ClipEntry]:
        """The index, without clips that are damaged and on the list of failed ones."""
        if not (self._folder / INDEX_NAME).is_file():
            return {}
        entries = ShardedDataset(self._folder).entries
        damaged: dict[str, str] = {}
        if self._failed:
            failed = ShardedDataset(self._folder, self._failed, damaged)
            damaged |= failed.find_damage()
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
        last = max((entry.shard for entry in self._entries.values()), default=None)
        clip_ids = [i for i, entry in self._entries.items() if entry.shard == last]
        if not clip_ids:
            return {}
        tensors, _ = open_shard(self._folder / last)
        sizes = {
            clip_id: sum(tensors[name].nbytes for name in tensor_names(clip_id))
            for clip_id in clip_ids
        }
        return sizes if sum(sizes.values()) < self._shard_bytes else {}

    def _pack_queue(self) -> None:
        self._pack(list(self._queue))
        self._queue.clear()
        self._queued_bytes = 0

    def _pack(self, clip_ids: list[str]) -> None:
        """Make a shard of clips that are staged, or in other shards."""
        tensors, packed = {}, {}
        number = 1 + max((_number(e.shard) for e in self._entries.values()), default=-1)
        shard = f"clips-{number:05}.safetensors"
        for clip_id in clip_ids:
            clip = self._read(clip_id)
            names = tensor_names(clip_id)
            tensors |= dict(zip(names, (clip.latents, clip.context), strict=True))
            packed[clip_id] = ClipEntry.of(clip, shard)
            if not self._staged(clip_id).is_file():
                _check_same(self._entries[clip_id], packed[clip_id])
        _save(self._folder / shard, tensors)
        self._entries |= packed
        write_index(self._folder, self._entries.values())
        for clip_id in clip_ids:
            self._staged(clip_id).unlink(missing_ok=True)

    def _read(self, clip_id: str) -> LatentClip:
        staged = self._staged(clip_id)
        if staged.is_file():
            tensors, header = open_shard(staged)
            names = "latents", "context"
            metadata = parse_json(header["metadata"], staged)
        else:
            entry = self._entries[clip_id]
            tensors, _ = open_shard(self._folder / entry.shard)
            names, metadata = tensor_names(clip_id), entry.metadata
        latents, context = (tensors[name].read() for name in names)
        return LatentClip(clip_id, latents, context, metadata)

    def _pack_again_what_has_leftovers(self) -> None:
        """Free shards of the tensors of clips that were removed or replaced."""
        clips_of: dict[str, list[str]] = {}
        for clip_id, entry in self._entries.items():
            clips_of.setdefault(entry.shard, []).append(clip_id)
        for shard, clip_ids in clips_of.items():
            tensors, _ = open_shard(self._folder / shard)
            if len(tensors) > 2 * len(clip_ids):
                self._pack(clip_ids)


def _save(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.numpy import save_file

    with written_aside(path) as aside:
        # Safetensors makes files that their owner alone may read. A new file shows
        # what the umask says.
        aside.touch()
        mode = aside.stat().st_mode
        save_file(dict(tensors), aside, metadata)
        aside.chmod(mode)


def _check_same(before: ClipEntry, now: ClipEntry) -> None:
    """Keep damage from being packed with a checksum that declares it right."""
    if (before.latents, before.context) != (now.latents, now.context):
        raise ValueError(
            f"Clip {before.id} is damaged in {before.shard}: `makeavid dataset check` "
            "tells which clips are, and can leave them out"
        )


def _number(shard: str) -> int:
    """Number of a shard that this module has named; -1 of another."""
    number = shard.removeprefix("clips-").removesuffix(".safetensors")
    return int(number) if number.isdecimal() else -1
