"""Flax's msgpack: nested maps of names to arrays, read without Flax.

An array is an extension object that holds shape, dtype and bytes. One of more than
`2**30` bytes is a map of flat pieces instead.
"""

from __future__ import annotations

import math

from weights_tools.containers.errors import ContainerError, shortened
from weights_tools.containers.mapped_file import (
    Extent,
    MappedFile,
    MappedTensors,
    StoredTensor,
)
from weights_tools.containers.msgpack_walker import Head, read_head
from weights_tools.containers.tensor_names import NameCollector
from weights_tools.containers.tensor_spec import TensorSpec, checked_spec

# Flax's extension types; a numpy scalar is an array without dimensions.
NDARRAY = 1
COMPLEX = 2
SCALAR = 3
CHUNKED = "__msgpack_chunked_array__"
LONGEST_KEY = 1024
# A hundred times those of a full training state of this family.
_MOST_ENTRIES = 1_000_000


def is_flax_msgpack(start: bytes) -> bool:
    """Whether a file that starts so is meant as msgpack: a map, its first key a string.

    Args:
        start: its first bytes, at least six.

    Example:
    ```python
    is_flax_msgpack(bytes([0x81, 0xA4]) + b"conv")  # True
    ```
    """
    heads = {0xDE: 3, 0xDF: 5}
    key = start[heads.get(start[0], 1) :][:1]
    is_map = 0x81 <= start[0] <= 0x8F or start[0] in heads
    return is_map and bool(key) and (0xA0 <= key[0] < 0xC0 or 0xD9 <= key[0] <= 0xDB)


def open_flax_msgpack(file: MappedFile) -> MappedTensors:
    """Open a file of Flax; only the heads of its objects are read.

    Entries that are no arrays, such as a step count, are left out.

    Args:
        file: the mapped file.

    Raises:
        ContainerError: if it is damaged or no such file.
    """
    walk = _Walk(file)
    root = read_head(file, 0, file.size)
    if root.kind != "map":
        raise ContainerError(file.path, "is not a msgpack map of names to arrays")
    end = walk.container(root, ())
    if end != file.size:
        raise ContainerError(file.path, f"{file.size - end} bytes follow the map")
    return MappedTensors(file, walk.tensors)


class _Walk:
    """Goes through a tree of maps once and notes where its arrays lie."""

    def __init__(self, file: MappedFile):
        self.file = file
        self.tensors: dict[str, StoredTensor] = {}
        self.names = NameCollector(file.path, file.size)
        self.left = _MOST_ENTRIES

    def container(self, head: Head, prefix: tuple[str, ...]) -> int:
        """Walk through a map or array; returns the offset after it."""
        self.names.check_depth(prefix)
        self.left -= head.value
        if self.left < 0:
            raise self.error(prefix, f"has more than {_MOST_ENTRIES} entries")
        offset = head.body
        for index in range(head.value):
            key = str(index)
            if head.kind == "map":
                key, offset = self.key(offset, prefix)
            if key == CHUNKED:
                if index or not prefix:
                    raise self.error(prefix, f"{CHUNKED} is not the first of its map")
                return self.chunked(head, offset, prefix)
            offset = self.entry(offset, prefix, key)
        return offset

    def key(self, offset: int, prefix) -> tuple[str, int]:
        head = read_head(self.file, offset, self.file.size)
        if head.kind != "str" or head.value > LONGEST_KEY:
            raise self.error(prefix, f"a key is no text of up to {LONGEST_KEY} bytes")
        end = head.body + head.value
        try:
            return self.file.map[head.body : end].decode("utf-8"), end
        except UnicodeDecodeError as error:
            raise self.error(prefix, f"a key is not in UTF-8: {error}") from error

    def entry(self, offset: int, prefix, key: str) -> int:
        head = read_head(self.file, offset, self.file.size)
        if head.kind in ("map", "array"):
            return self.container(head, (*prefix, key))
        if head.kind == "ext" and head.code in (NDARRAY, SCALAR):
            name = self.names.joined(prefix, key)
            self.tensors[name] = self.array(head, name)
        elif head.kind == "ext" and head.code != COMPLEX:
            raise self.error((*prefix, key), f"unknown extension type {head.code}")
        return head.body if head.kind == "int" else head.body + head.value

    def array(self, ext: Head, name: str) -> StoredTensor:
        """Shape, dtype and extent of an array from the body of its extension."""
        end = ext.body + ext.value
        outer = read_head(self.file, ext.body, end)
        if (outer.kind, outer.value) != ("array", 3):
            raise self.error((name,), "expected shape, dtype and bytes")
        shape, offset = self.shape(outer.body, end, name)
        dtype = read_head(self.file, offset, end)
        data = read_head(self.file, dtype.body + dtype.value, end)
        if dtype.kind != "str" or data.kind != "bin" or data.body + data.value != end:
            raise self.error((name,), "expected shape, dtype and bytes")
        code = self.file.map[dtype.body : dtype.body + min(dtype.value, LONGEST_KEY)]
        try:
            spec = checked_spec(shape, code.decode("ascii", "replace"))
        except ValueError as error:
            raise self.error((name,), str(error)) from error
        if spec.nbytes != data.value:
            raise self.error(
                (name,),
                f"shape {spec.shape} of {spec.dtype} takes {spec.nbytes} bytes, "
                f"{data.value} are there",
            )
        return StoredTensor(spec, (Extent(data.body, data.value),))

    def shape(self, offset: int, end: int, name: str) -> tuple[list[int], int]:
        head = read_head(self.file, offset, end)
        if head.kind != "array":
            raise self.error((name,), "shape is not a list")
        offset, shape = head.body, []
        for _ in range(head.value):
            size = read_head(self.file, offset, end)
            if size.kind != "int":
                raise self.error((name,), "shape is not a list of integers")
            shape.append(size.value)
            offset = size.body
        return shape, offset

    def chunked(self, head: Head, offset: int, prefix: tuple[str, ...]) -> int:
        """Note an array in pieces: `{marker: True, "shape": {}, "chunks": {}}`."""
        name = self.names.joined(prefix[:-1], prefix[-1])
        parts: dict[str, dict[str, object]] = {}
        offset = read_head(self.file, offset, self.file.size).body
        for _ in range(head.value - 1):
            key, offset = self.key(offset, prefix)
            parts[key], offset = self.numbered(offset, prefix)
        if parts.keys() != {"shape", "chunks"}:
            raise self.error(prefix, "expected shape and chunks of a chunked array")
        self.tensors[name] = self.joined_chunks(
            name, list(parts["shape"].values()), list(parts["chunks"].values())
        )
        return offset

    def numbered(self, offset: int, prefix) -> tuple[dict[str, object], int]:
        """A map of "0", "1", ... to integers or arrays, as Flax writes tuples."""
        head = read_head(self.file, offset, self.file.size)
        if head.kind != "map":
            raise self.error(prefix, "part of a chunked array is not a map")
        offset, found = head.body, {}
        for index in range(head.value):
            key, offset = self.key(offset, prefix)
            value = read_head(self.file, offset, self.file.size)
            if key != str(index):
                raise self.error(prefix, f"part {shortened(key)} is not in its place")
            if value.kind == "ext" and value.code == NDARRAY:
                found[key] = self.array(value, "/".join(prefix))
                offset = value.body + value.value
            elif value.kind == "int":
                found[key] = value.value
                offset = value.body
            else:
                raise self.error(prefix, "part of a chunked array is no array")
        return found, offset

    def joined_chunks(self, name: str, shape: list, chunks: list) -> StoredTensor:
        if not chunks or not all(isinstance(c, StoredTensor) for c in chunks):
            raise self.error((name,), "a chunked array has no chunks")
        try:
            spec = checked_spec(shape, chunks[0].spec.dtype)
        except ValueError as error:
            raise self.error((name,), str(error)) from error
        if any(c.spec != _flat(c.spec, spec.dtype) for c in chunks):
            raise self.error((name,), f"chunks are not flat arrays of {spec.dtype}")
        if sum(c.spec.nbytes for c in chunks) != spec.nbytes:
            raise self.error((name,), f"chunks do not add up to shape {spec.shape}")
        return StoredTensor(spec, tuple(c.extents[0] for c in chunks))

    def error(self, prefix: tuple[str, ...], reason: str) -> ContainerError:
        return ContainerError(self.file.path, reason, tensor="/".join(prefix) or None)


def _flat(spec: TensorSpec, dtype: str) -> TensorSpec:
    return TensorSpec((math.prod(spec.shape),), dtype)
