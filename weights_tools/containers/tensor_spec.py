"""Shape and dtype of a tensor that need not be loaded."""

from __future__ import annotations

import math
from typing import NamedTuple

import ml_dtypes
import numpy as np

from weights_tools.containers.errors import shortened

# Whole bytes an element, and the same meaning in every library that we read from.
DTYPES: dict[str, np.dtype] = {
    np.dtype(kind).name: np.dtype(kind)
    for kind in (
        *(np.bool_, np.int8, np.int16, np.int32, np.int64),
        *(np.uint8, np.uint16, np.uint32, np.uint64),
        *(np.float16, np.float32, np.float64, np.complex64, np.complex128),
        *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
        *(ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2fnuz),
        ml_dtypes.float8_e8m0fnu,
    )
}

# What numpy can index: dimensions, and bytes of an array.
_MOST_DIMENSIONS = 64
_MOST_BYTES = 2**63 - 1


class TensorSpec(NamedTuple):
    """Shape and dtype of a tensor.

    Args:
        shape: its dimensions.
        dtype: name of its dtype, as numpy and ml_dtypes name it.

    Example:
    ```python
    TensorSpec((320, 9, 3, 3), "bfloat16").nbytes  # 51840
    ```
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.numpy_dtype.itemsize

    @property
    def numpy_dtype(self) -> np.dtype:
        """The dtype itself, also where numpy alone does not know the name."""
        return DTYPES[self.dtype]


def checked_spec(shape: object, dtype: object) -> TensorSpec:
    """Make the spec of a tensor out of what a header says.

    Args:
        shape: list or tuple of dimensions, as read.
        dtype: name of the dtype, as read.

    Raises:
        ValueError: if the dtype is not supported or no array has such a shape.

    Example:
    ```python
    checked_spec([3, 4], "float32")  # TensorSpec(shape=(3, 4), dtype="float32")
    ```
    """
    # What is received may be anything that a file can spell: only strings are shown.
    if not isinstance(dtype, str):
        raise ValueError(f"dtype must be a string. Received: {type(dtype).__name__}")
    if dtype not in DTYPES:
        raise ValueError(
            f"dtype must be one of {sorted(DTYPES)}. Received: {shortened(dtype)}"
        )
    if not isinstance(shape, (list, tuple)) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"shape must be a list of at most {_MOST_DIMENSIONS} integers")
    # Exactly int: True is one too, for Python.
    if any(type(size) is not int or not 0 <= size <= _MOST_BYTES for size in shape):
        raise ValueError("shape must be integers from 0 to 2**63 - 1")
    # Zeros do not rescue the rest: numpy multiplies the others all the same.
    largest = math.prod(size for size in shape if size) * DTYPES[dtype].itemsize
    if largest > _MOST_BYTES:
        raise ValueError(f"shape is beyond what an array can have. Received: {shape}")
    return TensorSpec(tuple(shape), dtype)
