"""What every latent dataset can be asked, and how one is opened."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.data.json_files import read_id_list
from keras_makeavid.data.stored_array import StoredArray


@dataclass(frozen=True)
class LatentClip:
    """One clip of a dataset.

    Args:
        id: name of the clip, fit for a file name.
        latents: `(F, H, W, C)`, not scaled.
        context: text states `(L, D)`.
        metadata: caption, source and more, as JSON knows it.
    """

    id: str
    latents: np.ndarray
    context: np.ndarray
    metadata: dict[str, Any] = field(default_factory=dict)


class LatentReader(ABC):
    """Random access to the clips of a latent dataset.

    Opening one checks every clip by what its file's header tells. A clip is named by
    its place in `ids`.

    Attributes:
        folder: the dataset's folder.
        ids: ids of the clips that were opened.
        failed_id_list: file of the ids to leave out, which need not be there.

    Args:
        folder: dataset folder.
        only: ids to open, to be left out or not; `None` opens all that are not.
        damaged: takes the id of each damaged clip, and what is wrong; `None` refuses
            a dataset that has any.

    Raises:
        FileNotFoundError: if the folder holds no dataset.
        ValueError: if a list or index is malformed, or clips are damaged; names them.
    """

    _failed_name = "failed_id_list.json"

    def __init__(
        self,
        folder: str | os.PathLike,
        only: Collection[str] | None = None,
        damaged: dict[str, str] | None = None,
    ):
        self.folder = Path(folder)
        self.failed_id_list = self.folder / self._failed_name
        ids = self._listed_ids()
        failed = read_id_list(self.failed_id_list)
        chosen = set(ids) - set(failed) if only is None else set(only)
        self._arrays: list[tuple[StoredArray, StoredArray]] = []
        self.ids, problems = [], {}
        for clip_id in ids:
            if clip_id in chosen:
                try:
                    self._arrays.append(self._clip_arrays(clip_id))
                    self.ids.append(clip_id)
                except (ValueError, OSError) as error:
                    problems[clip_id] = str(error)
        if problems and damaged is None:
            raise ValueError(
                f"{len(problems)} clips are damaged, which `makeavid dataset check "
                f"--leave-out` can leave out: {'; '.join([*problems.values()][:10])}"
            )
        if damaged is not None:
            damaged.update(problems)

    @abstractmethod
    def _listed_ids(self) -> list[str]:
        """Every id that the dataset lists."""

    @abstractmethod
    def _clip_arrays(self, clip_id: str) -> tuple[StoredArray, StoredArray]:
        """Where a clip lies, checked by the headers of its files."""

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def latents_shape(self, index: int) -> tuple[int, int, int, int]:
        """Shape `(F, H, W, C)` of a clip's latents."""

    @abstractmethod
    def context_shape(self, index: int) -> tuple[int, int]:
        """Shape `(L, D)` of a clip's text states."""

    def latents(
        self, index: int, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Read frames of a clip and no others.

        Args:
            index: which clip.
            start: first frame.
            stop: end of the frames; `None` is that of the clip.

        Returns:
            `(stop - start, H, W, C)`, not scaled, as stored.

        Raises:
            ValueError: if the clip has no such frames.
        """
        frames = self.latents_shape(index)[0]
        stop = frames if stop is None else stop
        if not 0 <= start < stop <= frames:
            raise ValueError(
                f"Clip {self.ids[index]} has the frames 0 to {frames}. Received: "
                f"start={start}, stop={stop}"
            )
        return self._read_latents(index, start, stop)

    @abstractmethod
    def _read_latents(self, index: int, start: int, stop: int) -> np.ndarray:
        """Read frames that are there."""

    @abstractmethod
    def context(self, index: int) -> np.ndarray:
        """Read a clip's text states `(L, D)`."""

    @abstractmethod
    def metadata(self, index: int) -> dict[str, Any]:
        """Caption, source and more; empty if the dataset does not tell."""

    def check(self, index: int) -> None:
        """Read all of a clip to see whether it is whole.

        Raises:
            ValueError: if it holds numbers that are not finite, others than were
                written where the dataset can tell, or malformed metadata.
        """
        for name, array in (
            ("latents", self.latents(index)),
            ("text states", self.context(index)),
        ):
            if not np.isfinite(array).all():
                raise ValueError(
                    f"Clip {self.ids[index]}: the {name} hold numbers that are not "
                    "finite"
                )
        self.metadata(index)

    def clip(self, index: int) -> LatentClip:
        """All of a clip."""
        return LatentClip(
            self.ids[index],
            self.latents(index),
            self.context(index),
            self.metadata(index),
        )


def open_dataset(
    source: str | os.PathLike | LatentReader,
    only: Collection[str] | None = None,
    damaged: dict[str, str] | None = None,
) -> LatentReader:
    """Open a latent dataset, whichever of the two formats it is in.

    Args:
        source: folder of a dataset as `makeavid encode` writes it, or in the published
            layout; an opened one is returned as it is.
        only: as for `LatentReader`.
        damaged: as for `LatentReader`.

    Returns:
        A `ShardedDataset` or a `PublishedDataset`.

    Raises:
        FileNotFoundError: if it is neither.
        ValueError: if clips are damaged, or a list or index malformed.

    Example:
        ```python
        dataset = open_dataset("dataset")
        latents = dataset.latents(0, start=10, stop=34)  # of clip dataset.ids[0]
        ```
    """
    from keras_makeavid.data.published_dataset import PublishedDataset
    from keras_makeavid.data.shard_index import INDEX_NAME
    from keras_makeavid.data.sharded_dataset import ShardedDataset

    if isinstance(source, LatentReader):
        return source
    sharded = (Path(source) / INDEX_NAME).is_file()
    return (ShardedDataset if sharded else PublishedDataset)(source, only, damaged)
