"""Arrays whose axes were turned, brought into the order of their memory."""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Any

import numpy as np

from keras_makeavid.video.opencv import load_cv2

# Middle indices that are turned at a time, so that what is turned stays in the cache.
_BLOCK = 32

# Only the bytes matter; OpenCV does not know every dtype of theirs.
_KINDS = {2: np.uint16, 4: np.int32}


def contiguous(array: np.ndarray) -> np.ndarray:
    """A C-contiguous array of the same values; the array itself if it is one.

    `numpy.ascontiguousarray` turns matrices element by element. Where the axes stand
    in memory the other way round, as those of kernels in PyTorch, `(O, I, *k)`, and
    in Keras, `(*k, I, O)`, this uses OpenCV's transposition by blocks, several times
    as fast, where OpenCV can be loaded.

    Args:
        array: An array of numbers, such as the result of `numpy.transpose`.

    Returns:
        The array.

    Example:
    ```python
    kernel = np.zeros((320, 9, 3, 3), "float32")
    contiguous(kernel.transpose(2, 3, 1, 0)).flags.c_contiguous  # True
    ```
    """
    if array.flags.c_contiguous:
        return array
    squeezed = array.squeeze()
    in_memory = np.argsort(squeezed.strides)[::-1]
    base = squeezed.transpose(in_memory)
    order = np.argsort(in_memory)
    # Axes that follow each other here and in memory are one.
    starts = [order[0], *(b for a, b in pairwise(order) if b != a + 1)]
    if (
        not base.flags.c_contiguous
        or array.itemsize not in _KINDS
        or len(starts) > 3
        or starts != sorted(starts, reverse=True)
        or (cv2 := _opencv()) is None
    ):
        return np.ascontiguousarray(array)
    sizes = np.multiply.reduceat(base.shape, starts[::-1])
    turned = _reversed(cv2, base.reshape(sizes).view(_KINDS[array.itemsize]))
    return turned.view(array.dtype).reshape(array.shape)


@functools.cache
def _opencv() -> Any:
    """OpenCV, or `None` where it cannot be loaded: NumPy gives the same, later."""
    try:
        return load_cv2()
    except ImportError:
        return None


def _reversed(cv2, base):
    """`(A, B)` to `(B, A)`, or `(A, B, C)` to `(C, B, A)`."""
    turned = np.empty(base.shape[::-1], base.dtype)
    if base.ndim == 2:
        cv2.transpose(base, dst=turned)
        return turned
    first, middle, last = base.shape
    for start in range(0, middle, _BLOCK):
        block = slice(start, start + _BLOCK)
        if last <= first:
            matrix = base[:, block].reshape(first, -1)
            columns = cv2.transpose(matrix).reshape(-1, last, first)
            turned[:, block] = columns.transpose(1, 0, 2)
        else:
            rows = base[:, block].transpose(1, 0, 2).reshape(-1, last)
            cv2.transpose(rows, dst=turned[:, block].reshape(last, -1))
    return turned
