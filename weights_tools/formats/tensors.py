"""Named tensors in a file: their error, their specs, and files that are mapped."""

from __future__ import annotations

import ctypes
import io
import math
import mmap
import os
import reprlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from keras_makeavid.files import StrPath, missing_file

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 240
# What NumPy can index: dimensions, and bytes of an array.
_MOST_DIMENSIONS = 64
_MOST_BYTES = 2**63 - 1
SEPARATOR = "/"
# Deeper than any model nests, and shallow enough for Python to walk.
DEEPEST = 64

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


class FormatError(ValueError):
    """A file of tensors is damaged, dangerous or not supported.

    `reason` is the rest of a sentence about the file, or about a tensor in it.
    """

    def __init__(self, path: StrPath, reason: str, tensor: str | None = None):
        where = "" if tensor is None else f"tensor {shortened(tensor)}: "
        super().__init__(f"{os.fspath(path)}: {where}{reason}")


@contextmanager
def reading(
    path: Path, tensor: str | None = None, reason: str = "is not understood"
) -> Iterator[None]:
    """Make any error in what a file says a `FormatError`; `reason` is for odd ones."""
    try:
        yield
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(path, str(error) or reason, tensor) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            # Of the system, not of what a library makes of the content.
            raise
        reason = f"{reason}: {type(error).__name__}: {error!s:.200}"
        raise FormatError(path, reason, tensor) from error


def shortened(received: object) -> str:
    """Quote something received from a file, and cut it where it is long."""
    return _REPR.repr(received)


class TensorSpec(NamedTuple):
    """Shape of a tensor, and its dtype as NumPy and ml_dtypes name it."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.numpy_dtype.itemsize

    @property
    def numpy_dtype(self) -> np.dtype:
        """The dtype itself, also where NumPy alone does not know the name."""
        return DTYPES[self.dtype]


def checked_spec(shape: object, dtype: object) -> TensorSpec:
    """The spec of what a header says; `ValueError` if no array is like that."""
    # What is received may be anything that a file can spell: only strings are shown.
    if not isinstance(dtype, str) or dtype not in DTYPES:
        shown = shortened(dtype) if isinstance(dtype, str) else type(dtype).__name__
        raise ValueError(f"dtype must be one of {sorted(DTYPES)}. Received: {shown}")
    if not isinstance(shape, (list, tuple)) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"shape must be a list of at most {_MOST_DIMENSIONS} integers")
    # Exactly int: True is one too, for Python.
    if any(type(size) is not int or not 0 <= size <= _MOST_BYTES for size in shape):
        raise ValueError("shape must be integers from 0 to 2**63 - 1")
    # Zeros do not rescue the rest: NumPy multiplies the others all the same.
    largest = math.prod(size for size in shape if size) * DTYPES[dtype].itemsize
    if largest > _MOST_BYTES:
        raise ValueError(f"shape is beyond what an array can have. Received: {shape}")
    return TensorSpec(tuple(shape), dtype)


class _Located:
    """What has a place, which its errors name."""

    path: Path

    def error(self, reason: str, tensor: str | None = None) -> FormatError:
        """The error that says what is wrong with it, or with a tensor of it."""
        return FormatError(self.path, reason, tensor)


class TensorFile(_Located):
    """Named tensors in a file, read one at a time. A context manager.

    Args:
        path: The file, or what its tensors come from, for messages.
        specs: Shape and dtype of each tensor by name, in the order of the file.
        read: Returns the array of a name.
        metadata: What the file says about itself.
        close: Closes the file.
        left_out: What else with tensors is in the file, in words.
    """

    def __init__(
        self,
        path: StrPath,
        specs: Mapping[str, TensorSpec],
        read: Callable[[str], np.ndarray],
        metadata: Mapping[str, str] | None = None,
        close: Callable[[], object] = lambda: None,
        left_out: Sequence[str] = (),
    ):
        self.path = Path(path)
        self.left_out = tuple(left_out)
        self.specs: Mapping[str, TensorSpec] = MappingProxyType(dict(specs))
        self.metadata: dict[str, str] = dict(metadata or {})
        self._read: Callable[[str], np.ndarray] | None = read
        self._close = close

    def read(self, name: str) -> np.ndarray:
        """Read one tensor as a read-only array; the bytes of the others stay untouched.

        It may be a view of the mapped file, not always aligned, and outlives `close`.
        """
        if name not in self.specs:
            raise self.error("there is no such tensor", tensor=name)
        if self._read is None:
            raise self.error("is closed", tensor=name)
        return self._read(name)

    def renamed(self, names: Mapping[str, str]) -> TensorFile:
        """The file under other names, each of which leads to one of its own."""
        return TensorFile(
            self.path,
            {name: self.specs[own] for name, own in names.items()},
            lambda name: self.read(names[name]),
            self.metadata,
            left_out=self.left_out,
        )

    def close(self) -> None:
        """Close the file. Arrays that were read stay valid, and hold what they need."""
        self._read = None
        self._close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class Extent(NamedTuple):
    """A run of bytes in a file."""

    offset: int
    nbytes: int


class StoredTensor(NamedTuple):
    """A tensor and where its bytes lie."""

    spec: TensorSpec
    extent: Extent


class Pages:
    """Lets go of the memory of a mapped file that each thread touched before.

    Without this, a process that reads a file tensor by tensor grows to its size. Pages
    that are touched again come from the file again.
    """

    def __init__(self):
        # Of each thread, that none lets go of what another is about to read.
        self._touched = threading.local()

    def touch(self, owner: object, run: Extent) -> None:
        """Begin to use the run at this address, which `owner` keeps mapped."""
        # The one before stays mapped until this returns.
        _owner, before = getattr(self._touched, "now", (None, None))
        self._touched.now = owner, run
        if before is not None and hasattr(mmap, "MADV_DONTNEED"):
            start = before.offset - before.offset % mmap.PAGESIZE
            size = ctypes.c_size_t(sum(before) - start)
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), size, mmap.MADV_DONTNEED)


class MappedFile(_Located):
    """The bytes of an ordinary file, mapped: none is read before it is touched."""

    def __init__(self, path: StrPath):
        self.path = Path(path)
        if not self.path.exists():
            raise missing_file(self.path)
        if not self.path.is_file():
            raise self.error("is a folder or device, expected a file")
        with self.path.open("rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            if self.size == 0:
                raise self.error("is empty (0 bytes)")
            self.map = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
        self._pages = Pages()

    def holds(self, offset: int, nbytes: int) -> bool:
        """Whether `nbytes` bytes from `offset` on lie within the file."""
        return min(offset, nbytes) >= 0 and offset + nbytes <= self.size

    def view(self, tensor: StoredTensor) -> np.ndarray:
        """A tensor as it lies in the file."""
        shape, dtype = tensor.spec.shape, tensor.spec.numpy_dtype
        if tensor.spec.nbytes == 0:
            return read_only(np.empty(shape, dtype))
        whole = np.frombuffer(self.map, "u1")
        offset, nbytes = tensor.extent
        self._pages.touch(whole, Extent(whole.ctypes.data + offset, nbytes))
        return np.ndarray(shape, dtype, self.map, offset)


def mapped_tensors(
    file: MappedFile,
    tensors: Mapping[str, StoredTensor],
    metadata: Mapping[str, str] | None = None,
) -> TensorFile:
    """Tensors that lie in a mapped file as they are."""
    specs = {name: tensor.spec for name, tensor in tensors.items()}
    return TensorFile(file.path, specs, lambda n: file.view(tensors[n]), metadata)


class BoundedReader(io.RawIOBase):
    """A mapped file as a library reads it: one that goes in circles comes to an end."""

    def __init__(self, file: MappedFile, left: int):
        self._file, self._left, self._position = file, left, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}
        self._position = starts.get(whence, self._file.size) + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, nbytes: int = -1) -> bytes:
        start = self._position
        if nbytes < 0 or not self._file.holds(start, nbytes):
            raise EOFError(f"the file ends before {nbytes} bytes at {start}")
        self._position += nbytes
        # An empty read counts too, or it could go on for ever.
        self._left -= nbytes or 1
        if self._left < 0:
            raise EOFError("its structure leads in circles")
        return self._file.map[start : start + nbytes]


def read_only(array: np.ndarray) -> np.ndarray:
    """Make an array read-only and return it."""
    array.flags.writeable = False
    return array


class NameCollector:
    """Checks names of a nested file: joined, they could be far larger than the file."""

    def __init__(self, file: MappedFile):
        self._path = file.path
        self._left = file.size + 2**22
        self._seen: set[str] = set()

    def joined(self, path: tuple[str, ...]) -> str:
        """The name of a tensor from those of its groups, if no other has it."""
        name = SEPARATOR.join(path)
        self._left -= len(name)
        if self._left < 0 or name in self._seen:
            reason = "names are longer than the file"
            reason = "stands there twice" if name in self._seen else reason
            raise FormatError(self._path, reason, tensor=name)
        self._seen.add(name)
        return name

    def check_depth(self, path: tuple[str, ...]) -> None:
        """Check that groups do not nest beyond reason."""
        if len(path) > DEEPEST:
            name = SEPARATOR.join(path)
            raise FormatError(self._path, f"groups nest deeper than {DEEPEST}", name)


def nested(names: Iterable[str]) -> dict[str, Any]:
    """The tree that names with slashes spell; each leaf is the full name."""
    tree: dict[str, Any] = {}
    for name in names:
        *groups, last = name.split(SEPARATOR)
        if len(groups) > DEEPEST:
            raise ValueError(f"Groups nest deeper than {DEEPEST}: {name!r}")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or last in node:
            raise ValueError(f"A tensor's name begins that of another: {name!r}")
        node[last] = name
    return tree
