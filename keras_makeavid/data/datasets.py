"""Latent datasets of either layout: opened, checked, described and converted."""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from keras_makeavid.data.published import PublishedReader, write_published
from keras_makeavid.data.reader import LatentReader, read_ids
from keras_makeavid.data.sharded import INDEX_NAME, ShardedReader, ShardedWriter
from keras_makeavid.files import folder_written_aside
from keras_makeavid.json_files import write_json
from keras_makeavid.validation import check_choice


def open_dataset(
    source: str | os.PathLike | LatentReader,
    damaged: dict[str, str] | None = None,
) -> LatentReader:
    """Open a latent dataset, a `ShardedReader` or a `PublishedReader`, by its layout.

    Args:
        source: Folder of a dataset. One that is open is returned as it is.
        damaged: As for `LatentReader`.

    Raises:
        FileNotFoundError: The folder is in neither layout.
        ValueError: Clips are damaged, or a list or index is malformed.

    Example:
    ```python
    dataset = open_dataset("dataset")
    latents = dataset.latents(0, start=10, stop=34)  # of clip dataset.ids[0]
    ```
    """
    if isinstance(source, LatentReader):
        return source
    sharded = (Path(source) / INDEX_NAME).is_file()
    return (ShardedReader if sharded else PublishedReader)(source, damaged=damaged)


def check_dataset(
    folder: str | os.PathLike,
    leave_out: bool = False,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> dict[str, str]:
    """Read every number of a dataset, and tell what is wrong with clips, by id.

    Opening looks at headers only. This finds numbers that are not finite and, in a
    sharded dataset, bytes that are not those that were written.

    Args:
        folder: Dataset folder, in either layout.
        leave_out: Add the damaged clips to `failed_id_list.json`: training leaves them
            out, and the next encoding of the same folder repairs them.
        on_clip: Called with each clip's id when it has been read.

    Raises:
        FileNotFoundError: There is no dataset.
        ValueError: Its list or index is malformed.

    Example:
    ```python
    check_dataset("dataset", leave_out=True)  # {"cat": "Clip cat: the latents ..."}
    ```
    """
    dataset = open_dataset(folder, damaged={})
    damaged = dataset.find_damage(on_clip)
    if leave_out and damaged:
        failed = dict.fromkeys([*read_ids(dataset.failed_id_list), *damaged])
        write_json(dataset.failed_id_list, list(failed))
    return damaged


def dataset_facts(dataset: LatentReader) -> dict[str, Any]:
    """Tell numbers of clips and frames, and shapes, of an open dataset by name.

    One that has no clips is a `ValueError`.

    Example:
    ```python
    dataset_facts(open_dataset("dataset"))["frames"]  # 1200000
    ```
    """
    if not dataset.ids:
        raise ValueError(f"{dataset.folder} lists no clips")
    every = range(len(dataset))
    shapes = [dataset.latents_shape(index) for index in every]
    frames = [shape[0] for shape in shapes]
    dtypes = {str(dataset.latents(i, 0, 1).dtype) for i in (0, len(dataset) - 1)}
    return {
        "layout": type(dataset).__name__.removesuffix("Reader").lower(),
        "clips": len(dataset),
        "frames": sum(frames),
        "frames a clip": f"{min(frames)} to {max(frames)}",
        "latents": _listed({tuple(shape[1:]) for shape in shapes}),
        "text states": _listed({tuple(dataset.context_shape(i)) for i in every}),
        "dtype": _listed(dtypes),
    }


def convert_dataset(
    source: str | os.PathLike | LatentReader,
    out: str | os.PathLike,
    layout: str = "sharded",
    half: bool = False,
    on_clip: Callable[[str], None] = lambda clip_id: None,
) -> None:
    """Copy a dataset into another layout.

    Clips of `failed_id_list.json` are left out. What is copied is checked; float32
    stays the same to the byte.

    Args:
        source: Dataset folder, in either layout, or an opened dataset.
        out: Folder to make. It appears when all of it is written.
        layout: `"sharded"`, or `"published"` for that of the published datasets.
        half: Store float16 instead of float32, in the sharded layout only.
        on_clip: Called with each clip's id when it has been copied.

    Raises:
        FileExistsError: There are files in `out` already.
        FileNotFoundError: `source` or one of its files is missing.
        ValueError: An argument makes no sense, or a clip is damaged.

    Example:
    ```python
    convert_dataset("tempofunk-sdance", "dataset", half=True)
    ```
    """
    check_choice("layout", layout, ("sharded", "published"))
    if half and layout != "sharded":
        raise ValueError("The published layout is float32: half cannot be given")
    dataset = open_dataset(source)
    out = Path(out)
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out} holds files: choose another folder")

    def clips():
        for index, clip_id in enumerate(dataset.ids):
            yield dataset.check(index)
            on_clip(clip_id)

    with folder_written_aside(out) as aside:
        if layout == "published":
            write_published(aside, clips())
            return
        writer = ShardedWriter(aside, half)
        for clip in clips():
            writer.add(clip)
        writer.finish()


def _listed(values: Collection[Any]) -> str:
    return ", ".join(str(value) for value in sorted(values))
