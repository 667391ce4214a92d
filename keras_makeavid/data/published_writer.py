"""Writing the published dataset layout."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from keras_makeavid.data.check import find_damage
from keras_makeavid.data.json_files import read_id_list, read_json, write_json
from keras_makeavid.data.published_layout import PublishedLayout
from keras_makeavid.data.reader import LatentClip
from keras_makeavid.files import remove_leftovers, written_aside


class PublishedWriter:
    """Makes or continues a dataset of the published layout (spec section 7).

    A `LatentWriter`; float32.

    Args:
        folder: dataset folder, made if missing.

    Raises:
        ValueError: if one of its lists is malformed.

    Example:
        ```python
        writer = PublishedWriter("dataset")
        writer.add(LatentClip("cat", latents, context, {"caption": "a cat"}))
        writer.finish()
        ```
    """

    def __init__(self, folder: str | os.PathLike):
        self._layout = PublishedLayout(folder)
        self._ids = dict.fromkeys(read_id_list(self._layout.id_list))
        self._failed = dict.fromkeys(read_id_list(self._layout.failed_id_list))
        for name in ("videos", "prompts", "metadata"):
            (self._layout.data / name).mkdir(parents=True, exist_ok=True)
            remove_leftovers(self._layout.data / name)
        # A run that was stopped has left clips that are in no list.
        damaged = ()
        if self._failed and self._layout.id_list.is_file():
            damaged = find_damage(folder, only=self._failed)
        files = sorted((self._layout.data / "metadata").glob("*.json"))
        self.stored = {
            clip_id: metadata
            for clip_id in dict.fromkeys([*self._ids, *(path.stem for path in files)])
            if clip_id not in damaged
            and (metadata := self._metadata_of_whole(clip_id)) is not None
        }

    def add(self, clip: LatentClip) -> None:
        # The metadata comes last: a clip that has it has everything.
        self._layout.metadata(clip.id).unlink(missing_ok=True)
        latents = np.moveaxis(clip.latents, -1, 1)
        _save(self._layout.video(clip.id), latents)
        _save(self._layout.prompt(clip.id), clip.context[None])
        write_json(self._layout.metadata(clip.id), clip.metadata)
        self.stored[clip.id] = clip.metadata
        self._ids[clip.id] = None
        self._failed.pop(clip.id, None)

    def keep(self, clip_id: str) -> None:
        self._ids[clip_id] = None

    def remove(self, clip_id: str) -> None:
        self.stored.pop(clip_id, None)
        self._ids.pop(clip_id, None)
        # The reverse of writing: what still has metadata still has everything.
        for path in (
            self._layout.metadata(clip_id),
            self._layout.prompt(clip_id),
            self._layout.video(clip_id),
        ):
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        write_json(self._layout.id_list, list(self._ids))
        write_json(self._layout.failed_id_list, list(self._failed))

    def _metadata_of_whole(self, clip_id):
        """A clip's metadata, or `None` if something of the clip is missing."""
        of_clip = (self._layout.video, self._layout.prompt, self._layout.metadata)
        if not all(path(clip_id).is_file() for path in of_clip):
            return None
        try:
            metadata = read_json(self._layout.metadata(clip_id))
        except ValueError:
            return None
        return metadata if isinstance(metadata, dict) else None


def _save(path: Path, array: np.ndarray) -> None:
    with written_aside(path) as aside, aside.open("wb") as file:
        np.save(file, np.ascontiguousarray(array, "float32"))
