"""A file mapped into memory, and tensors that lie in it as they are."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from weights_tools.containers.errors import ContainerError
from weights_tools.containers.tensor_file import TensorFile
from weights_tools.containers.tensor_spec import TensorSpec


class MappedFile:
    """The bytes of a file, mapped: none is read before it is touched.

    Args:
        path: an ordinary file.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ContainerError: if it is empty or no ordinary file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"There is no file {self.path}.")
        if not self.path.is_file():
            raise ContainerError(self.path, "is a folder or device, expected a file")
        with self.path.open("rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            if self.size == 0:
                raise ContainerError(self.path, "is empty (0 bytes)")
            self.map = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)

    def holds(self, offset: int, nbytes: int) -> bool:
        """Whether `nbytes` bytes from `offset` on lie within the file."""
        return min(offset, nbytes) >= 0 and offset + nbytes <= self.size

    def piece(self, offset: int, nbytes: int, what: str) -> bytes:
        """Copy a piece of the header.

        Args:
            offset: where it starts.
            nbytes: how long it is.
            what: what it is, for the text of the error.

        Raises:
            ContainerError: if the file ends before it does.
        """
        if not self.holds(offset, nbytes):
            raise ContainerError(
                self.path,
                f"is truncated or damaged: {what} would take the bytes {offset} to "
                f"{offset + nbytes} of {self.size}",
            )
        return self.map[offset : offset + nbytes]


class Extent(NamedTuple):
    """A run of bytes in a file."""

    offset: int
    nbytes: int


class StoredTensor(NamedTuple):
    """Where and how a tensor lies in a file.

    Args:
        spec: its shape and dtype.
        extents: the bytes of its elements, in order; more than one only where the
            container cuts large tensors.
        strides: bytes from one element to the next along each axis, where it is not
            C-contiguous; then the only extent is where its first element starts and
            what follows.
    """

    spec: TensorSpec
    extents: tuple[Extent, ...]
    strides: tuple[int, ...] | None = None


class MappedTensors(TensorFile):
    """Tensors that lie in a mapped file as they are: reading one gives a view.

    Args:
        file: the mapped file.
        tensors: where each lies, in the order of the file; within the file.
        metadata: what the file says of itself.
    """

    def __init__(
        self,
        file: MappedFile,
        tensors: Mapping[str, StoredTensor],
        metadata: Mapping[str, str] | None = None,
    ):
        specs = {name: tensor.spec for name, tensor in tensors.items()}
        super().__init__(file.path, specs, metadata)
        self._map = file.map
        self._tensors = dict(tensors)
        # Of each thread, that none lets go of what another is about to read.
        self._touched = threading.local()

    def _read(self, name: str) -> np.ndarray:
        if self._map is None:
            raise ContainerError(self.path, "is closed", tensor=name)
        self._release_pages()
        tensor = self._tensors[name]
        shape, dtype = tensor.spec.shape, tensor.spec.numpy_dtype
        if tensor.spec.nbytes == 0:
            return _read_only(np.empty(shape, dtype))
        self._touched.extents = tensor.extents
        if len(tensor.extents) == 1:
            offset = tensor.extents[0].offset
            return np.ndarray(shape, dtype, self._map, offset, tensor.strides)
        pieces = [np.frombuffer(self._map, "u1", n, at) for at, n in tensor.extents]
        return _read_only(np.concatenate(pieces).view(dtype).reshape(shape))

    def _release_pages(self) -> None:
        """Let go of the memory that the tensor that this thread read before took.

        Its array stays valid: pages that are touched again come from the file again.
        Without this, a process that reads a file tensor by tensor grows to its size.
        """
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        for offset, nbytes in getattr(self._touched, "extents", ()):
            start = offset - offset % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, start, offset + nbytes - start)

    def close(self) -> None:
        # Not `mmap.close`: that fails while arrays live. The last of them unmaps.
        self._map = None


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
