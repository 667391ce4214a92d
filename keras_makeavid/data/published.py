"""The layout of the published datasets, `TempoFunk/tempofunk-sdance` and `small`.

Three files a clip: `data/videos/<id>.npy`, float32 `(F, C, H, W)`, not scaled;
`data/prompts/<id>.npy`, float32 `(1, L, D)`; and `data/metadata/<id>.json`.
`data/id_list.json` and `data/failed_id_list.json` list the ids.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from keras_makeavid.data.reader import LatentClip, LatentReader, StoredArray, read_ids
from keras_makeavid.files import problem_of, remove_leftovers, written_aside
from keras_makeavid.json_files import read_object, write_json

ID_LIST = "data/id_list.json"


class PublishedReader(LatentReader):
    """A `LatentReader` of the layout of `TempoFunk/tempofunk-sdance`."""

    FAILED_ID_LIST: ClassVar[str] = "data/failed_id_list.json"

    def latents_shape(self, index: int) -> tuple[int, int, int, int]:
        frames, channels, height, width = self._arrays[index][0].shape
        return frames, height, width, channels

    def latents(
        self, index: int, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        return np.moveaxis(super().latents(index, start, stop), 1, -1)

    def metadata(self, index: int) -> dict[str, Any]:
        _, _, path = _clip_files(self.folder, self.ids[index])
        return read_object(path) if path.is_file() else {}

    def _listed_ids(self) -> list[str]:
        path = self.folder / ID_LIST
        if not path.is_file():
            problem = f"{self.folder} is no latent dataset"
            raise FileNotFoundError(f"{problem}: it has no {path}")
        return read_ids(path)

    def _clip_arrays(self, clip_id: str) -> tuple[StoredArray, StoredArray]:
        video, prompt, _ = _clip_files(self.folder, clip_id)
        latents, context = _stored(video), _stored(prompt)
        if len(latents.shape) != 4 or len(context.shape) != 3 or context.shape[0] != 1:
            raise ValueError(
                f"Clip {clip_id} must have latents (F, C, H, W) and text states "
                f"(1, L, D). Received: {latents.shape} and {context.shape}"
            )
        return latents, replace(context, shape=context.shape[1:])


class PublishedWriter:
    """Makes or continues a dataset of this layout, in float32, as `ShardedWriter`."""

    def __init__(self, folder: str | os.PathLike):
        self._folder = Path(folder)
        self._failed_id_list = self._folder / PublishedReader.FAILED_ID_LIST
        self._ids = dict.fromkeys(read_ids(self._folder / ID_LIST))
        self._failed = dict.fromkeys(read_ids(self._failed_id_list))
        for path in _clip_files(self._folder, "any"):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
        damaged: dict[str, str] = {}
        if self._failed and self._ids:
            damaged = PublishedReader(folder, self._failed, {}).find_damage()
        # A run that was stopped has left clips that are in no list.
        files = sorted((self._folder / "data" / "metadata").glob("*.json"))
        self.stored: dict[str, dict[str, Any]] = {}
        for clip_id in dict.fromkeys([*self._ids, *(path.stem for path in files)]):
            metadata = self._metadata_of_whole(clip_id)
            if metadata is not None and clip_id not in damaged:
                self.stored[clip_id] = metadata

    def add(self, clip: LatentClip) -> None:
        video, prompt, metadata = _clip_files(self._folder, clip.id)
        # The metadata come last: a clip that has them has everything.
        metadata.unlink(missing_ok=True)
        _save(video, np.moveaxis(clip.latents, -1, 1))
        _save(prompt, clip.context[None])
        write_json(metadata, clip.metadata)
        self.stored[clip.id] = clip.metadata
        self._failed.pop(clip.id, None)
        self.keep(clip.id)

    def keep(self, clip_id: str) -> None:
        self._ids[clip_id] = None

    def remove(self, clip_id: str) -> None:
        self.stored.pop(clip_id, None)
        self._ids.pop(clip_id, None)
        # The reverse of writing: what still has metadata still has everything.
        for path in reversed(_clip_files(self._folder, clip_id)):
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        write_json(self._folder / ID_LIST, list(self._ids))
        write_json(self._failed_id_list, list(self._failed))

    def _metadata_of_whole(self, clip_id: str) -> dict[str, Any] | None:
        """A clip's metadata, or `None` if something of the clip is missing."""
        files = _clip_files(self._folder, clip_id)
        if not all(path.is_file() for path in files):
            return None
        try:
            return read_object(files[-1])
        except ValueError:
            return None


def _clip_files(folder: Path, clip_id: str) -> tuple[Path, Path, Path]:
    """Latents, text states and metadata, in the order in which they are written."""
    data = folder / "data"
    return (
        data / "videos" / f"{clip_id}.npy",
        data / "prompts" / f"{clip_id}.npy",
        data / "metadata" / f"{clip_id}.json",
    )


def _stored(path: Path) -> StoredArray:
    """An array of numbers in a file, of which only the header is read."""
    if not path.is_file():
        raise FileNotFoundError(f"The dataset lacks {path}")
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        # A damaged header makes NumPy fail with any of a dozen types of error.
        raise ValueError(f"{path} {problem_of(path, error)}") from error
    if not np.issubdtype(array.dtype, np.floating) or not array.flags.c_contiguous:
        raise ValueError(
            f"{path} must hold floating-point numbers in C order. Received: "
            f"{array.dtype}{'' if array.flags.c_contiguous else ' in Fortran order'}"
        )
    return StoredArray(path, array.dtype, array.shape, array.offset)


def _save(path: Path, array: np.ndarray) -> None:
    with written_aside(path) as aside, aside.open("wb") as file:
        np.save(file, np.ascontiguousarray(array, "float32"))
