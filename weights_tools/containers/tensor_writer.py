"""A file of named tensors, written one tensor at a time, complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from keras_makeavid.files import existing_parent, written_aside
from weights_tools.containers.flax_msgpack_plan import plan_flax_msgpack
from weights_tools.containers.hdf5_plan import Hdf5Plan
from weights_tools.containers.layout_plan import LayoutPlan
from weights_tools.containers.safetensors_format import plan_safetensors
from weights_tools.containers.tensor_spec import TensorSpec, checked_spec

_PLANS: dict[
    str, Callable[[Mapping[str, TensorSpec], Mapping[str, str]], LayoutPlan]
] = {
    "flax_msgpack": plan_flax_msgpack,
    "hdf5": Hdf5Plan,
    "safetensors": plan_safetensors,
}

# Large enough that what a hint costs is nothing beside writing so much.
_SENT_BYTES = 64 * 2**20


class TensorWriter:
    """Writes each tensor of a planned file to its place. A context manager.

    The file appears at its path, replacing what was there, when the block ends and
    every tensor has been written. Any error leaves nothing new behind.

    Args:
        path: the file to write.
        specs: shape and dtype of each tensor by name.
        plan: how the file begins and where each goes.
    """

    def __init__(self, path: Path, specs: Mapping[str, TensorSpec], plan: LayoutPlan):
        self.path = path
        self._specs = dict(specs)
        self._plan = plan
        self._missing = dict.fromkeys(specs)
        self._stack = ExitStack()
        self._unsent = 0

    def __enter__(self):
        with ExitStack() as stack:
            aside = stack.enter_context(written_aside(self.path))
            self._extents = self._plan.begin(aside)
            self._file = stack.enter_context(aside.open("r+b"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            self._stack.__exit__(kind, error, traceback)
            return
        with self._stack:
            self._check_complete()
            os.fsync(self._file.fileno())
        _sync_folder(self.path.parent)

    def write(self, name: str, array: np.ndarray) -> None:
        """Write one tensor; several threads may write one each.

        Args:
            name: one of the specs; each is written exactly once, in any order.
            array: its values, in the shape and dtype announced; need not be contiguous.

        Raises:
            ValueError: if the name is unknown or was written, or the array differs
                from its spec.
        """
        if name not in self._specs:
            raise ValueError(f"{self.path} has no tensor {name!r}")
        if name not in self._missing:
            raise ValueError(f"Tensor {name!r} of {self.path} was written before")
        spec = self._specs[name]
        if (array.shape, array.dtype.name) != spec:
            raise ValueError(
                f"Tensor {name!r} of {self.path} must be {spec.dtype} {spec.shape}. "
                f"Received: {array.dtype.name} {array.shape}"
            )
        # Also turns big-endian numbers, which have the same name, into little-endian.
        array = np.ascontiguousarray(array, dtype=spec.numpy_dtype)
        values = array.reshape(-1).view("u1")
        for offset, nbytes in self._extents[name]:
            self._write_at(offset, values[:nbytes].data)
            values = values[nbytes:]
        del self._missing[name]

    def _write_at(self, offset: int, data: memoryview) -> None:
        self._unsent += len(data)
        # The system writes at most 2 GB at once.
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            offset, data = offset + written, data[written:]
        if self._unsent >= _SENT_BYTES and hasattr(os, "posix_fadvise"):
            # Linux then begins to bring what was written to the disk, instead of
            # leaving all of it to the end.
            self._unsent = 0
            with suppress(OSError):
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def _check_complete(self) -> None:
        if self._missing:
            listed = ", ".join(list(self._missing)[:20])
            raise ValueError(
                f"{len(self._missing)} tensors of {self.path} were not written: "
                f"{listed}"
            )


def create_tensors(
    path: str | os.PathLike[str],
    specs: Mapping[str, TensorSpec],
    container: str,
    metadata: Mapping[str, str] | None = None,
) -> TensorWriter:
    """Begin a file of tensors; use the result in a `with` block.

    Args:
        path: the file to write; what is there is replaced when the block succeeds.
        specs: shape and dtype of each tensor by name; their order is kept where the
            container has one.
        container: `"safetensors"`, `"flax_msgpack"` (names joined by `/` become
            nested maps) or `"hdf5"` (they become groups).
        metadata: what the file shall say of itself.

    Returns:
        A `TensorWriter`.

    Raises:
        FileNotFoundError: if the folder to write it in is missing.
        IsADirectoryError: if a folder is at `path`.
        ValueError: if the container is unknown or cannot hold such tensors.
        OSError: if the disk has not enough space.

    Example:
    ```python
    specs = {"weight": TensorSpec((2, 3), "float32")}
    with create_tensors("model.safetensors", specs, "safetensors") as writer:
        writer.write("weight", np.zeros((2, 3), "float32"))
    ```
    """
    if container not in _PLANS:
        raise ValueError(
            f"container must be one of {sorted(_PLANS)}. Received: {container!r}"
        )
    path = existing_parent(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a file or nothing.")
    specs = {name: checked_spec(*spec) for name, spec in specs.items()}
    plan = _PLANS[container](specs, metadata or {})
    free = shutil.disk_usage(path.parent).free
    if free < plan.size:
        raise OSError(
            errno.ENOSPC, f"{plan.size} bytes are needed, {free} are free", str(path)
        )
    return TensorWriter(path, specs, plan)


def _sync_folder(folder: Path) -> None:
    """Make a rename last: on POSIX it is the folder's own data."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
