"""Reading all of a dataset to see whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from keras_makeavid.data.json_files import read_id_list, write_json
from keras_makeavid.data.reader import open_dataset


def check_dataset(
    folder: str | os.PathLike,
    leave_out: bool = False,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> dict[str, str]:
    """Read every number of a dataset, and tell which clips are damaged.

    Opening a dataset looks at headers only. This finds the rest: numbers that are not
    finite and, in a sharded dataset, bytes that are not those that were written.

    Args:
        folder: dataset folder, in either layout.
        leave_out: add the damaged clips to `failed_id_list.json`, by which training
            leaves them out and the next encoding of the same folder repairs them.
        on_clip: called with each clip's id when it is read.

    Returns:
        Id of each damaged clip, and what is wrong.

    Raises:
        FileNotFoundError: if there is no dataset.
        ValueError: if its list or index is malformed.

    Example:
        ```python
        check_dataset("dataset", leave_out=True)  # {"cat": "Clip cat: the latents ..."}
        ```
    """
    damaged = find_damage(folder, on_clip=on_clip)
    if leave_out and damaged:
        path = open_dataset(folder, only=()).failed_id_list
        write_json(path, list(dict.fromkeys([*read_id_list(path), *damaged])))
    return damaged


def find_damage(
    folder: str | os.PathLike,
    only: Collection[str] | None = None,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> dict[str, str]:
    """Read every number of some clips of a dataset, as `check_dataset` does.

    Args:
        folder: dataset folder, in either layout.
        only: ids of the clips, to be left out or not; `None` takes all that are not.
        on_clip: called with each clip's id when it is read.

    Returns:
        Id of each damaged clip, and what is wrong.
    """
    damaged: dict[str, str] = {}
    dataset = open_dataset(folder, only, damaged)
    for index, clip_id in enumerate(dataset.ids):
        try:
            dataset.check(index)
        except (ValueError, OSError) as error:
            damaged[clip_id] = str(error)
        on_clip(clip_id)
    return damaged
