"""A file of named tensors, written one tensor at a time, complete or not at all."""

import errno
import functools
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from keras_makeavid.files import StrPath, existing_parent, written_aside
from weights_tools.formats.flax_format import lay_out_flax
from weights_tools.formats.hdf5_format import begin_hdf5, check_hdf5
from weights_tools.formats.safetensors_format import lay_out_safetensors
from weights_tools.formats.tensors import TensorSpec, checked_spec

# Each gives a file in order: heads as bytes, data as a tensor's name and its bytes.
_LAYOUTS = {"flax_msgpack": lay_out_flax, "safetensors": lay_out_safetensors}
_FORMATS = ("flax_msgpack", "hdf5", "safetensors")
# Large enough that what a hint costs is nothing beside writing so much.
_SENT_BYTES = 64 * 2**20


class TensorWriter:
    """Writes each tensor of a planned file to its place. A context manager.

    The file appears, in place of what was there, when the block ends and all is there.
    `begin` writes all but the tensors, and tells where the bytes of each begin.
    """

    def __init__(
        self,
        path: Path,
        specs: Mapping[str, TensorSpec],
        begin: Callable[[Path], Mapping[str, int]],
    ):
        self.path = path
        self._specs = dict(specs)
        self._begin = begin
        self._missing = dict.fromkeys(specs)
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._unsent = 0

    def __enter__(self):
        with ExitStack() as stack:
            aside = stack.enter_context(written_aside(self.path))
            self._offsets = self._begin(aside)
            self._file = stack.enter_context(aside.open("r+b", buffering=0))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            self._stack.__exit__(kind, error, traceback)
            return
        with self._stack:
            if self._missing:
                raise ValueError(
                    f"{len(self._missing)} tensors of {self.path} were not written: "
                    f"{', '.join(list(self._missing)[:20])}"
                )
            os.fsync(self._file.fileno())

    def write(self, name: str, array: np.ndarray) -> None:
        """Write one tensor, each exactly once; several threads may do so at a time."""
        if name not in self._specs:
            raise ValueError(f"{self.path} has no tensor {name!r}")
        if name not in self._missing:
            raise ValueError(f"Tensor {name!r} of {self.path} was written before")
        spec = self._specs[name]
        if TensorSpec(array.shape, array.dtype.name) != spec:
            raise ValueError(
                f"Tensor {name!r} of {self.path} must be {spec.dtype} {spec.shape}. "
                f"Received: {array.dtype.name} {array.shape}"
            )
        # Also turns big-endian numbers, which have the same name, into little-endian.
        array = np.ascontiguousarray(array, dtype=spec.numpy_dtype)
        if array.size:
            self._write_at(self._offsets[name], array.reshape(-1).view("u1").data)
        del self._missing[name]

    def _write_at(self, offset: int, data: memoryview) -> None:
        with self._lock:
            self._unsent += len(data)
            self._file.seek(offset)
            # The system writes at most 2 GB at once.
            while data:
                data = data[self._file.write(data) :]
            if self._unsent >= _SENT_BYTES and hasattr(os, "posix_fadvise"):
                # Linux then begins to bring to the disk what was written.
                self._unsent = 0
                with suppress(OSError):
                    os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def create_tensors(
    path: StrPath,
    specs: Mapping[str, TensorSpec],
    format: str,
    metadata: Mapping[str, str] | None = None,
) -> TensorWriter:
    """Begin a file of tensors; use the result in a `with` block.

    Args:
        path: The file to write; what is there is replaced when the block succeeds.
        specs: Shape and dtype of each tensor by name; kept in order if the format can.
        format: `"safetensors"`, `"flax_msgpack"` or `"hdf5"`, whose nested maps or
            groups the names spell by `/`. What it cannot hold is a `ValueError`, a
            disk that is too small an `OSError`.
        metadata: What the file shall say about itself.
    """
    if format not in _FORMATS:
        raise ValueError(f"format must be one of {_FORMATS}. Received: {format!r}")
    path = existing_parent(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a file or nothing.")
    specs = {name: checked_spec(*spec) for name, spec in specs.items()}
    texts = dict(metadata or {})
    if format == "hdf5":
        check_hdf5(specs)
        begin = functools.partial(begin_hdf5, specs=specs, metadata=texts)
    else:
        begin = functools.partial(_begin, pieces=_LAYOUTS[format](specs, texts))
    size = sum(spec.nbytes for spec in specs.values())
    free = shutil.disk_usage(path.parent).free
    if free < size:
        problem = f"{size} bytes are needed, {free} are free"
        raise OSError(errno.ENOSPC, problem, str(path))
    return TensorWriter(path, specs, begin)


def _begin(path: Path, pieces: list[bytes | tuple[str, int]]) -> dict[str, int]:
    """Write the heads of a file, and leave the place of each tensor's bytes."""
    offsets: dict[str, int] = {}
    with path.open("xb") as file:
        for piece in pieces:
            if isinstance(piece, bytes):
                file.write(piece)
            else:
                name, nbytes = piece
                offsets[name] = file.tell()
                file.seek(nbytes, os.SEEK_CUR)
        file.truncate()
    return offsets
