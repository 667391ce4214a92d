"""The layout of the published datasets, `TempoFunk/tempofunk-sdance` and `small`.

Three files a clip: `data/videos/<id>.npy`, float32 `(F, C, H, W)`, not scaled;
`data/prompts/<id>.npy`, float32 `(1, L, D)`; and `data/metadata/<id>.json`.
`data/id_list.json` and `data/failed_id_list.json` list the ids.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from keras_makeavid.data.reader import LatentClip, LatentReader, StoredArray, read_ids
from keras_makeavid.files import problem_of
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


def write_published(folder: Path, clips: Iterable[LatentClip]) -> None:
    """Write a dataset of this layout, in float32, into a folder that is empty."""
    for path in _clip_files(folder, "any"):
        path.parent.mkdir(parents=True)
    ids = []
    for clip in clips:
        video, prompt, metadata = _clip_files(folder, clip.id)
        latents = np.moveaxis(clip.latents, -1, 1)
        np.save(video, np.ascontiguousarray(latents, "float32"))
        np.save(prompt, np.ascontiguousarray(clip.context[None], "float32"))
        write_json(metadata, clip.metadata)
        ids.append(clip.id)
    write_json(folder / ID_LIST, ids)
    write_json(folder / PublishedReader.FAILED_ID_LIST, [])


def _clip_files(folder: Path, clip_id: str) -> tuple[Path, Path, Path]:
    """Files of latents, text states and metadata."""
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
        expected = f"{path} must hold floating-point numbers in C order"
        raise ValueError(f"{expected}. Received: {array.dtype}, {array.strides}")
    return StoredArray(path, array.dtype, array.shape, array.offset)
