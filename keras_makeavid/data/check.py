"""Reading all of a dataset to see whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable

from keras_makeavid.data.json_files import read_id_list, write_json
from keras_makeavid.data.reader import LatentReader, open_dataset


def check_dataset(
    source: str | os.PathLike | LatentReader,
    leave_out: bool = False,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> dict[str, str]:
    """Read every number of a dataset, and tell which clips are damaged.

    Opening a dataset looks at headers only. This finds the rest: numbers that are not
    finite and, in a sharded dataset, bytes that are not those that were written.

    Args:
        source: dataset folder, in either layout, or an opened dataset.
        leave_out: add the damaged clips to `failed_id_list.json`, by which training
            leaves them out. Encoding a clip again takes it off the list.
        on_clip: called with each clip's id when it is read.

    Returns:
        Id of each damaged clip, and what is wrong.

    Raises:
        FileNotFoundError: if the dataset or one of its files is missing.
        ValueError: if the dataset cannot be opened, as by training.

    Example:
        ```python
        check_dataset("dataset", leave_out=True)  # {"cat": "Clip cat: the latents ..."}
        ```
    """
    dataset = open_dataset(source)
    damaged = {}
    for index, clip_id in enumerate(dataset.ids):
        try:
            dataset.check(index)
        except (ValueError, OSError) as error:
            damaged[clip_id] = str(error)
        on_clip(clip_id)
    if leave_out and damaged:
        failed = read_id_list(dataset.failed_id_list)
        write_json(dataset.failed_id_list, list(dict.fromkeys([*failed, *damaged])))
    return damaged
