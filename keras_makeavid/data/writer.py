"""What encoding and conversion write clips to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from keras_makeavid.data.reader import LatentClip

LAYOUTS = ("sharded", "published")


class LatentWriter(Protocol):
    """A dataset that is made or continued.

    After `add` a clip survives the end of the process at any moment; after `finish`
    the dataset can be read.

    Attributes:
        stored: metadata of each whole clip that the dataset has.
    """

    stored: dict[str, dict[str, Any]]

    def add(self, clip: LatentClip) -> None:
        """Write a clip, in place of one of the same id."""

    def keep(self, clip_id: str) -> None:
        """Say that a stored clip is as it should be."""

    def remove(self, clip_id: str) -> None:
        """Take a clip out of the dataset, if it is there."""

    def finish(self) -> None:
        """Bring the list or index of clips up to date."""


def open_writer(
    folder: str | os.PathLike, layout: str = "sharded", half: bool = False
) -> LatentWriter:
    """Make or continue a dataset.

    Args:
        folder: its folder, made if missing.
        layout: `"sharded"`, or `"published"` for that of spec section 7.
        half: store float16 instead of float32; of the sharded layout only.

    Returns:
        A `ShardedWriter` or a `PublishedWriter`.

    Raises:
        ValueError: if an argument makes no sense, the folder holds a dataset of the
            other layout, or its index is malformed.

    Example:
        ```python
        writer = open_writer("dataset", half=True)
        writer.add(LatentClip("cat", latents, context, {"caption": "a cat"}))
        writer.finish()
        ```
    """
    from keras_makeavid.data.published_writer import PublishedWriter
    from keras_makeavid.data.shard_index import INDEX_NAME
    from keras_makeavid.data.sharded_writer import STAGED_FOLDER, ShardedWriter

    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {LAYOUTS}. Received: {layout!r}")
    if half and layout != "sharded":
        raise ValueError("The published layout is float32: half cannot be given")
    # Also what a run that was stopped leaves.
    signs = {"sharded": (INDEX_NAME, STAGED_FOLDER), "published": ("data/videos",)}
    for other, names in signs.items():
        there = any((Path(folder) / name).exists() for name in names)
        if other != layout and there:
            raise ValueError(
                f"{folder} holds a dataset of the {other} layout already: continue "
                f"it with layout={other!r} or choose another folder"
            )
    if layout == "sharded":
        return ShardedWriter(folder, half)
    return PublishedWriter(folder)
