"""Arrays in files, of which any run of rows can be read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class StoredArray:
    """An array that lies in a file in C order.

    Rows are read by their very bytes. Through a memory map the first read of a window
    took three times as long, as the system reads ahead (4.9 times the window's bytes
    where it was measured), and a disk that fails ends the process without a word.

    Args:
        path: the file.
        dtype: its dtype.
        shape: its shape.
        offset: where in the file it begins, in bytes.

    Example:
        ```python
        StoredArray(path, np.dtype("float32"), (120, 64, 64, 4), 128).read(10, 34)
        ```
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read rows.

        Args:
            start: first row.
            stop: end of the rows; `None` is that of the array.

        Returns:
            `(stop - start, ...)`.

        Raises:
            FileNotFoundError: if the file is gone.
            ValueError: if it ends too early.
        """
        row_shape = self.shape[1:]
        stop = self.shape[0] if stop is None else stop
        array = np.empty((stop - start, *row_shape), self.dtype)
        left = memoryview(array.reshape(-1).view("uint8"))
        # Unbuffered: one request to the system for all of it.
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset + start * math.prod(row_shape) * self.dtype.itemsize)
            while left:
                count = file.readinto(left)
                if not count:
                    raise ValueError(f"{self.path} has become shorter than it was")
                left = left[count:]
        return array
