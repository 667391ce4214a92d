"""Checkpoints of PyTorch, zip archives or older, read without PyTorch."""

from __future__ import annotations

import io
from typing import Any

from weights_tools.containers.errors import ContainerError, shortened
from weights_tools.containers.mapped_file import Extent, MappedFile, MappedTensors
from weights_tools.containers.pickle_machine import PickleError, read_pickle
from weights_tools.containers.tensor_spec import DTYPES
from weights_tools.containers.torch_records import (
    StorageRecord,
    storage_record,
    torch_name,
)
from weights_tools.containers.torch_tensors import tensors_of
from weights_tools.containers.zip_directory import zip_extents

# Ten times the pickle of a full training checkpoint of this family.
_LONGEST_PICKLE = 16 * 2**20
_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_VERSION = 1001


def is_pickle(start: bytes) -> bool:
    """Whether a file that starts so is meant as a pickle.

    Args:
        start: its first bytes, at least two.

    Example:
    ```python
    is_pickle(bytes([0x80, 2]))  # True
    ```
    """
    return start[0] == 0x80 and 2 <= start[1] <= 5


def open_torch_zip(file: MappedFile) -> MappedTensors:
    """Open a checkpoint as PyTorch has written it since 1.6.

    Only its pickle is read, as data: nothing of it is run.

    Args:
        file: the mapped file.

    Raises:
        ContainerError: if it is damaged, or the pickle asks for more than tensors.
    """
    extents = zip_extents(file)
    pickles = [name for name in extents if name.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].count("/") != 1:
        raise ContainerError(
            file.path, "is a zip archive, but not of PyTorch: it has no data.pkl"
        )
    folder = pickles[0].removesuffix("data.pkl")
    order = extents.get(folder + "byteorder")
    if order and file.piece(*order, "the byte order") != b"little":
        raise ContainerError(file.path, "has big-endian numbers, which are unsupported")
    offset, nbytes = extents[pickles[0]]
    if nbytes > _LONGEST_PICKLE:
        raise ContainerError(
            file.path, f"pickle of {nbytes} bytes, expected at most {_LONGEST_PICKLE}"
        )

    def locate(storage: StorageRecord) -> Extent:
        record = f"{folder}data/{storage.key}"
        if record not in extents:
            raise ValueError(f"there is no record {shortened(record)} in the file")
        return extents[record]

    stream = io.BytesIO(file.piece(offset, nbytes, "the pickle"))
    return tensors_of(file, _content(file, stream), locate)


def open_torch_old(file: MappedFile) -> MappedTensors:
    """Open a checkpoint as PyTorch wrote it before 1.6: pickles, then storages.

    Args:
        file: the mapped file.

    Raises:
        ContainerError: if it is damaged, or a pickle asks for more than tensors.
    """
    storages: dict[str, StorageRecord] = {}
    start = file.map[:_LONGEST_PICKLE]
    stream = io.BytesIO(start)
    if _content(file, stream, storages) != _OLD_MAGIC:
        raise ContainerError(file.path, "is a pickle, but not one of PyTorch's")
    version, system, content, order = (
        _content(file, stream, storages) for _ in range(4)
    )
    if version != _OLD_VERSION:
        raise ContainerError(file.path, "is of an unknown version of PyTorch's format")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ContainerError(file.path, "has big-endian numbers, which are unsupported")
    extents = _old_extents(file, storages, order, stream.tell())

    def locate(storage: StorageRecord) -> Extent:
        return extents[storage.key]

    return tensors_of(file, content, locate)


def _content(
    file: MappedFile,
    stream: io.BytesIO,
    storages: dict[str, StorageRecord] | None = None,
) -> Any:
    def persistent(identity: Any) -> StorageRecord:
        record = storage_record(identity)
        if storages is not None and storages.setdefault(record.key, record) != record:
            raise PickleError(f"describes storage {shortened(record.key)} twice")
        return record

    try:
        return read_pickle(stream, torch_name, persistent)
    except PickleError as error:
        raise ContainerError(file.path, f"pickle {error}") from error


def _old_extents(
    file: MappedFile, storages: dict[str, StorageRecord], order: Any, position: int
) -> dict[str, Extent]:
    """Each storage stands after the pickles, behind its count of elements."""
    if (
        not isinstance(order, list)
        or not all(isinstance(key, str) for key in order)
        or sorted(order) != sorted(storages)
    ):
        raise ContainerError(file.path, "does not list the storages that it uses")
    extents = {}
    for key in order:
        what = f"storage {shortened(key)}"
        size = int.from_bytes(file.piece(position, 8, what), "little")
        nbytes = size * DTYPES[storages[key].dtype].itemsize
        if size != storages[key].size or not file.holds(position + 8, nbytes):
            raise ContainerError(file.path, f"{what} is cut off or damaged")
        extents[key] = Extent(position + 8, nbytes)
        position += 8 + nbytes
    return extents
