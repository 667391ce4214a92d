"""Open a file of named tensors, whatever its format."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from weights_tools.containers.errors import ContainerError
from weights_tools.containers.flax_msgpack_format import (
    is_flax_msgpack,
    open_flax_msgpack,
)
from weights_tools.containers.hdf5_format import is_hdf5, open_hdf5
from weights_tools.containers.mapped_file import MappedFile
from weights_tools.containers.safetensors_format import is_safetensors, open_safetensors
from weights_tools.containers.sharded import is_index, open_sharded
from weights_tools.containers.tensor_file import TensorFile
from weights_tools.containers.torch_format import (
    is_pickle,
    open_torch_old,
    open_torch_zip,
)
from weights_tools.containers.zip_directory import is_zip


class _Format(NamedTuple):
    starts: Callable[[bytes], bool]
    open: Callable[[MappedFile], TensorFile]
    suffixes: tuple[str, ...] = ()


_FILES = (
    _Format(is_safetensors, open_safetensors, (".safetensors",)),
    _Format(is_hdf5, open_hdf5, (".h5", ".hdf5")),
    _Format(is_zip, open_torch_zip),
    _Format(is_pickle, open_torch_old, (".bin", ".ckpt", ".pt", ".pth")),
    _Format(is_flax_msgpack, open_flax_msgpack, (".msgpack",)),
)
_ALL = (*_FILES, _Format(is_index, lambda file: open_sharded(file, _open), (".json",)))


def open_tensors(path: str | os.PathLike[str]) -> TensorFile:
    """Open a file of named tensors; nothing but its header is read.

    The format is told by the content, then by the suffix: safetensors, checkpoints of
    PyTorch (nothing in them is run, and PyTorch is not needed), Flax's msgpack, HDF5 as
    Keras writes it, or the `index.json` of files in any of these.

    Args:
        path: the file, or the index of a sharded set.

    Returns:
        A `TensorFile`, to be closed.

    Raises:
        FileNotFoundError: if there is nothing at `path`, or a shard is missing.
        ContainerError: if it is damaged, dangerous or of no known format.

    Example:
    ```python
    specs = {"bias": TensorSpec((3,), "float32")}
    with create_tensors("model.safetensors", specs, "safetensors") as writer:
        writer.write("bias", np.ones(3, "float32"))
    with open_tensors("model.safetensors") as file:
        bias = file.read("bias")
    bias.shape  # (3,)
    ```
    """
    return _open(path, _ALL)


def _open(path: str | os.PathLike[str], formats=_FILES) -> TensorFile:
    file = MappedFile(path)
    start = file.map[:16].ljust(16, b"\0")
    for candidate in formats:
        if candidate.starts(start):
            return candidate.open(file)
    for candidate in formats:
        if file.path.suffix in candidate.suffixes:
            return candidate.open(file)
    raise ContainerError(
        file.path,
        "is no safetensors file, checkpoint of PyTorch, msgpack of Flax, HDF5 file or "
        f"index of such. It begins with {start!r}",
    )
