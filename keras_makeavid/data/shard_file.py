"""Safetensors files, and the tensors in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from keras_makeavid.data.shard_index import TensorEntry
from keras_makeavid.data.stored_array import StoredArray

# By safetensors' names; little-endian, whatever machine reads them.
_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


def open_shard(path: Path) -> tuple[dict[str, StoredArray], dict[str, str]]:
    """Look at the header of a safetensors file.

    Args:
        path: the file.

    Returns:
        Its tensors of float32 and float16 by name, and its metadata.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"The dataset lacks {path}")
    try:
        # Checks the header: that tensors fill the file and do not overlap.
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", {})
    tensors = {
        name: StoredArray(
            path,
            _DTYPES[tensor["dtype"]],
            tuple(tensor["shape"]),
            8 + length + tensor["data_offsets"][0],
        )
        for name, tensor in header.items()
        if tensor["dtype"] in _DTYPES
    }
    return tensors, metadata


def tensor_entry(array: np.ndarray) -> TensorEntry:
    """What the index says of an array."""
    return TensorEntry(array.dtype.name, array.shape, sha256_of(array))


def sha256_of(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes, little-endian and in C order."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(array.reshape(-1).view("uint8")).hexdigest()
