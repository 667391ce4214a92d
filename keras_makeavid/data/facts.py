"""What a dataset holds, in a few lines."""

from __future__ import annotations

from typing import Any

from keras_makeavid.data.reader import LatentReader


def dataset_facts(dataset: LatentReader) -> dict[str, Any]:
    """Numbers of clips and frames, and the shapes.

    Args:
        dataset: an opened dataset.

    Returns:
        A dict of name and value.

    Raises:
        ValueError: if it has no clips.

    Example:
        ```python
        dataset_facts(open_dataset("dataset"))["frames"]  # 1200000
        ```
    """
    if not dataset.ids:
        raise ValueError(f"{dataset.folder} lists no clips")
    shapes = [dataset.latents_shape(index) for index in range(len(dataset))]
    contexts = {tuple(dataset.context_shape(i)) for i in range(len(dataset))}
    frames = [shape[0] for shape in shapes]
    dtypes = {str(dataset.latents(i, 0, 1).dtype) for i in (0, len(dataset) - 1)}
    return {
        "layout": type(dataset).__name__.removesuffix("Dataset").lower(),
        "clips": len(dataset),
        "frames": sum(frames),
        "frames a clip": f"{min(frames)} to {max(frames)}",
        "latents": _listed({tuple(shape[1:]) for shape in shapes}),
        "text states": _listed(contexts),
        "dtype": _listed(dtypes),
    }


def _listed(values):
    return ", ".join(str(value) for value in sorted(values))
