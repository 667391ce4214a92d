"""Arrays whose axes were turned, brought into the order of their memory."""

from __future__ import annotations

import cv2
import numpy as np

# Rows of the turned matrix that are made at a time, so that they stay in the cache.
_BLOCK = 256


def contiguous(array: np.ndarray) -> np.ndarray:
    """A C-contiguous array of the same values; the array itself if it is one.

    `numpy.ascontiguousarray` turns matrices element by element. Where the first axis
    in memory becomes the last, or the last one the first, as between the kernels of
    PyTorch and of Keras, this uses OpenCV's transposition by blocks: four times as
    fast.

    Args:
        array: an array of numbers, such as the result of `numpy.transpose`.

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
    if not base.flags.c_contiguous or array.itemsize not in (2, 4):
        return np.ascontiguousarray(array)
    order = np.argsort(in_memory)
    if order[-1] == 0:
        turned = _first_to_last(base, order)
    elif order[0] == base.ndim - 1:
        turned = _last_to_first(base, order)
    else:
        turned = np.ascontiguousarray(squeezed)
    return turned.reshape(array.shape)


def _first_to_last(base, order):
    """Turn `(P, ...)` into `(..., P)`, the other axes in the order asked for."""
    first, others = base.shape[0], base.shape[1:]
    turned = np.empty([*others, first], base.dtype)
    rows, matrix = turned.reshape(-1, first), base.reshape(first, -1)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        _transpose(matrix[:, block], rows[block])
    # Whole rows move now.
    return np.ascontiguousarray(turned.transpose([*(order[:-1] - 1), base.ndim - 1]))


def _last_to_first(base, order):
    """Turn `(..., P)` into `(P, ...)`, the other axes in the order asked for."""
    last = base.shape[-1]
    rows = np.ascontiguousarray(base.transpose([*order[1:], base.ndim - 1]))
    matrix = rows.reshape(-1, last)
    turned = np.empty((last, len(matrix)), base.dtype)
    for start in range(0, last, _BLOCK):
        block = slice(start, start + _BLOCK)
        _transpose(matrix[:, block], turned[block])
    return turned


def _transpose(matrix, out):
    # Only the bytes matter; OpenCV does not know every dtype of theirs.
    kind = {2: np.uint16, 4: np.int32}[matrix.itemsize]
    out.view(kind)[...] = cv2.transpose(np.ascontiguousarray(matrix).view(kind))
