"""The tensors of a checkpoint of PyTorch, checked and found in its file."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from weights_tools.containers.errors import ContainerError, shortened
from weights_tools.containers.mapped_file import (
    Extent,
    MappedFile,
    MappedTensors,
    StoredTensor,
)
from weights_tools.containers.tensor_spec import DTYPES, TensorSpec, checked_spec
from weights_tools.containers.torch_records import StorageRecord, TensorRecord

_LARGEST = 2**63 - 1
# Finds the bytes of a storage in the file, or raises `ValueError`.
Locate = Callable[[StorageRecord], Extent]


def tensors_of(file: MappedFile, content: Any, locate: Locate) -> MappedTensors:
    """The tensors of a checkpoint: of its `state_dict`, if it has one, or its own.

    Other entries, such as a step count, are left out.

    Args:
        file: the mapped file.
        content: what its pickle says.
        locate: finds the bytes of a storage.

    Raises:
        ContainerError: if there are no tensors, or one is damaged.
    """
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict):
        raise ContainerError(
            file.path,
            f"holds a {type(content).__name__}, expected a dict of names to tensors",
        )
    records = {k: v for k, v in content.items() if isinstance(v, TensorRecord)}
    if not records:
        keys = shortened(", ".join(str(key) for key in list(content)[:20]))
        raise ContainerError(file.path, f"holds no tensors, only entries {keys}")
    return MappedTensors(
        file, {name: _checked(file, name, r, locate) for name, r in records.items()}
    )


def _checked(file: MappedFile, name: Any, record, locate: Locate) -> StoredTensor:
    if not isinstance(name, str):
        raise ContainerError(file.path, f"name is no string: {shortened(name)}")
    try:
        return _stored(file, record, locate)
    except ValueError as error:
        raise ContainerError(file.path, str(error), tensor=name) from error


def _stored(file: MappedFile, record: TensorRecord, locate: Locate) -> StoredTensor:
    storage = record.storage
    if not isinstance(storage, StorageRecord):
        raise ValueError("has no storage")
    spec = checked_spec(record.shape, record.dtype)
    stride, offset = record.stride, record.offset
    if (
        not isinstance(stride, tuple)
        or len(stride) != len(spec.shape)
        or any(type(n) is not int or not 0 <= n <= _LARGEST for n in (*stride, offset))
    ):
        raise ValueError(f"offset and strides are not those of shape {spec.shape}")
    # A view may repeat elements: cheap in the file, not when it is copied.
    if spec.nbytes > file.size:
        raise ValueError(
            f"shape {spec.shape} takes {spec.nbytes} bytes, "
            f"more than the whole file ({file.size})"
        )
    itemsize = spec.numpy_dtype.itemsize
    steps = zip(spec.shape, stride, strict=True)
    last = sum((size - 1) * step for size, step in steps)
    span = (last + 1) * itemsize if spec.nbytes else 0
    start, room = offset * itemsize, storage.size * DTYPES[storage.dtype].itemsize
    if start + span > room:
        raise ValueError(
            f"shape {spec.shape} from element {offset} on goes beyond its storage of "
            f"{room} bytes"
        )
    where = locate(storage)
    if where.nbytes != room or not file.holds(*where):
        raise ValueError(f"storage of {room} bytes is cut off or damaged")
    extent = Extent(where.offset + start, span)
    if stride == _contiguous(spec):
        return StoredTensor(spec, (extent,))
    return StoredTensor(spec, (extent,), tuple(step * itemsize for step in stride))


def _contiguous(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(math.prod(spec.shape[i + 1 :]) for i in range(len(spec.shape)))
