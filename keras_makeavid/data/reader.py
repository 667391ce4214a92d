"""Reading a latent dataset: its ids, its arrays in files, and its clips."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np

from keras_makeavid.json_files import read_json

# An id becomes part of file names: nothing in it may leave the folder.
CLIP_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}\Z"
ClipId = Annotated[str, msgspec.Meta(pattern=CLIP_ID)]


def read_ids(path: Path) -> list[str]:
    """Read a JSON file of clip ids; none if there is no file."""
    if not path.is_file():
        return []
    try:
        return msgspec.convert(read_json(path), list[ClipId])
    except msgspec.ValidationError as error:
        expected = f"{path} must hold a list of ids, of letters, digits, '_', '-', '.'"
        raise ValueError(f"{expected}: {error}") from error


@dataclass(frozen=True)
class LatentClip:
    """A clip of a dataset, whose id is fit for a file name.

    It has latents `(F, H, W, C)`, not scaled, text states `(L, D)` as context, and
    metadata: caption, source and more, in the types of JSON.
    """

    id: str
    latents: np.ndarray
    context: np.ndarray
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredArray:
    """An array that lies in a file in C order, from byte `offset` on.

    Its rows are read by plain reads. Through a memory map the first read of a window
    took three times as long, and a disk that fails ends the process without a word.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read the rows from `start` to before `stop`, or to the end."""
        stop = self.shape[0] if stop is None else stop
        row = math.prod(self.shape[1:])
        offset = self.offset + start * row * self.dtype.itemsize
        array = np.fromfile(self.path, self.dtype, (stop - start) * row, offset=offset)
        if array.size < (stop - start) * row:
            raise ValueError(f"{self.path} has become shorter than it was")
        return array.reshape(-1, *self.shape[1:])


class LatentReader(ABC):
    """Random access to the clips of a latent dataset, each named by its place in `ids`.

    Opening a dataset checks every clip by the headers of its files.

    Attributes:
        folder: The dataset's folder.
        ids: Ids of the clips that were opened.
        failed_id_list: File of the ids to leave out, which need not be there.

    Args:
        folder: Dataset folder.
        only: Ids to open, on the list of failed ones or not. `None` opens all others.
        damaged: Takes ids of damaged clips, and what is wrong. `None` refuses any.

    Raises:
        FileNotFoundError: The folder holds no dataset.
        ValueError: A list, an index or clips, which are named, are damaged.
    """

    FAILED_ID_LIST: ClassVar[str] = "failed_id_list.json"

    def __init__(
        self,
        folder: str | os.PathLike,
        only: Collection[str] | None = None,
        damaged: dict[str, str] | None = None,
    ):
        self.folder = Path(folder)
        self.failed_id_list = self.folder / self.FAILED_ID_LIST
        listed = self._listed_ids()
        failed = read_ids(self.failed_id_list)
        chosen = set(listed) - set(failed) if only is None else set(only)
        # Of each clip, its latents and its text states.
        self._arrays: list[tuple[StoredArray, StoredArray]] = []
        self.ids: list[str] = []
        self._damaged: dict[str, str] = {}
        for clip_id in listed:
            if clip_id not in chosen:
                continue
            try:
                self._arrays.append(self._clip_arrays(clip_id))
                self.ids.append(clip_id)
            except (ValueError, OSError) as error:
                self._damaged[clip_id] = str(error)
        if damaged is not None:
            damaged.update(self._damaged)
        elif self._damaged:
            problems = list(self._damaged.values())
            raise ValueError(
                f"{len(problems)} clips are damaged, which `makeavid dataset check "
                f"--leave-out` can leave out: {'; '.join(problems[:10])}"
            )

    @abstractmethod
    def _listed_ids(self) -> list[str]:
        """Every id that the dataset lists."""

    @abstractmethod
    def _clip_arrays(self, clip_id: str) -> tuple[StoredArray, StoredArray]:
        """Where a clip's latents and its text states `(L, D)` lie, by the headers."""

    def __len__(self) -> int:
        return len(self.ids)

    def latents_shape(self, index: int) -> tuple[int, int, int, int]:
        """Shape `(F, H, W, C)` of a clip's latents."""
        frames, height, width, channels = self._arrays[index][0].shape
        return frames, height, width, channels

    def context_shape(self, index: int) -> tuple[int, int]:
        """Shape `(L, D)` of a clip's text states."""
        length, channels = self._arrays[index][1].shape
        return length, channels

    def latents(
        self, index: int, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Read frames `start` to before `stop` of a clip, `(stop - start, H, W, C)`.

        They are as stored, not scaled. Frames that it has not are a `ValueError`.
        """
        frames = self.latents_shape(index)[0]
        stop = frames if stop is None else stop
        if not 0 <= start < stop <= frames:
            expected = f"Clip {self.ids[index]} has the frames 0 to {frames}"
            raise ValueError(f"{expected}. Received: start={start}, stop={stop}")
        return self._arrays[index][0].read(start, stop)

    def context(self, index: int) -> np.ndarray:
        """Read a clip's text states `(L, D)`."""
        return self._arrays[index][1].read()

    @abstractmethod
    def metadata(self, index: int) -> dict[str, Any]:
        """Caption, source and more; empty if the dataset does not tell."""

    def check(self, index: int) -> LatentClip:
        """Read all of a clip; refuse numbers that are not finite, or not as written."""
        parts = self.latents(index), self.context(index), self.metadata(index)
        clip = LatentClip(self.ids[index], *parts)
        for name, array in (("latents", clip.latents), ("text states", clip.context)):
            if not np.isfinite(array).all():
                raise ValueError(
                    f"Clip {clip.id}: the {name} hold numbers that are not finite"
                )
        return clip

    def find_damage(
        self, on_clip: Callable[[str], None] = lambda clip_id: None
    ) -> dict[str, str]:
        """Check every clip, each told to `on_clip`; return those damaged, and why."""
        damaged = dict(self._damaged)
        for index, clip_id in enumerate(self.ids):
            try:
                self.check(index)
            except (ValueError, OSError) as error:
                damaged[clip_id] = str(error)
            on_clip(clip_id)
        return damaged
