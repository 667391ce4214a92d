"""From one dataset layout to another."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from keras_makeavid.data.reader import LatentReader, open_dataset
from keras_makeavid.data.writer import open_writer
from keras_makeavid.files import folder_written_aside


def convert_dataset(
    source: str | os.PathLike | LatentReader,
    out: str | os.PathLike,
    layout: str = "sharded",
    half: bool = False,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> None:
    """Copy a dataset into another layout.

    Clips of `failed_id_list.json` are left out. Float32 survives the way to the
    sharded layout and back byte by byte. What is copied is checked.

    Args:
        source: dataset folder, in either layout, or an opened dataset.
        out: folder to make; it appears when all of it is written.
        layout: `"sharded"`, or `"published"` for that of spec section 7.
        half: store float16 instead of float32; of the sharded layout only.
        on_clip: called with each clip's id when it is copied.

    Raises:
        FileExistsError: if there are files in `out` already.
        FileNotFoundError: if `source` or one of its files is missing.
        ValueError: if an argument makes no sense, or a clip is damaged.

    Example:
        ```python
        convert_dataset("tempofunk-sdance", "dataset", half=True)
        ```
    """
    dataset = open_dataset(source)
    out = Path(out)
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out} holds files: choose another folder")
    with folder_written_aside(out) as aside:
        writer = open_writer(aside, layout, half)
        for index, clip_id in enumerate(dataset.ids):
            dataset.check(index)
            writer.add(dataset.clip(index))
            on_clip(clip_id)
        writer.finish()
