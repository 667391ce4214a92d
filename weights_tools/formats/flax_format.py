"""Flax's msgpack: nested maps of names to arrays, its small objects read by `msgpack`.

An array is an extension object of shape, dtype and bytes. Only heads are read, and data
stays where it is in the file. Flax cuts arrays of more than `2**30` bytes into pieces:
no weight of this family is a tenth as large, and none is read or written.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack

from weights_tools.formats import tensors

# Flax's extension types; a NumPy scalar is an array without dimensions.
_NDARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_LONGEST_KEY = 1024
# More than the head of any object that is read takes.
_WINDOW = 2**10
# A hundred times those of a full training state of this family.
_MOST_ENTRIES = 1_000_000
_LARGEST_ARRAY = 2**30
# What stands after a first byte, and how many bytes it holds, or the form of the number
# that tells it. Nothing else is looked into.
_HEADS: dict[int, tuple[str, int | str]] = {
    **dict.fromkeys((*range(0x80, 0x90), 0xDE, 0xDF), ("map", 0)),
    **{0xA0 + length: ("str", length) for length in range(32)},
    **{0xD4 + power: ("ext", 2**power) for power in range(5)},
    **{0xC4 + i: ("bin", form) for i, form in enumerate("BHI")},
    **{0xC7 + i: ("ext", form) for i, form in enumerate("BHI")},
    **{0xD9 + i: ("str", form) for i, form in enumerate("BHI")},
}


def is_flax(start: bytes) -> bool:
    """Whether a file that starts so is meant as msgpack: a map of texts."""
    key = start[{0xDE: 3, 0xDF: 5}.get(start[0], 1) :][:1] or b"\0"
    kinds = [_HEADS.get(first, ("other",))[0] for first in (start[0], key[0])]
    return kinds == ["map", "str"] and start[0] != 0x80


def open_flax(file: tensors.MappedFile) -> tensors.TensorFile:
    """Open a file of Flax by its heads alone; what is no array is left out."""
    walk = _Walk(file)
    try:
        walk.entries(())
    except tensors.FormatError:
        raise
    except Exception as error:
        # Damage meets the library in many ways.
        problem = f"is truncated or damaged at byte {walk.at}"
        raise file.error(f"{problem}: {error!r:.200}") from error
    if walk.at != file.size:
        raise file.error(f"{file.size - walk.at} bytes follow the map")
    return tensors.mapped_tensors(file, walk.tensors)


class _Walk:
    """Goes through a file of Flax once, object by object, and notes its arrays."""

    def __init__(self, file: tensors.MappedFile):
        self.file = file
        self.at = 0
        self.tensors: dict[str, tensors.StoredTensor] = {}
        self.names = tensors.NameCollector(file)
        self.left = _MOST_ENTRIES

    def library(self, method: str) -> Any:
        """Read what stands next by a method of `msgpack.Unpacker`, and go on."""
        unpacker = msgpack.Unpacker(max_buffer_size=_WINDOW)
        unpacker.feed(self.file.map[self.at : self.at + _WINDOW])
        found = getattr(unpacker, method)()
        self.at += unpacker.tell()
        return found

    def kind(self) -> str:
        """What stands next: `"map"`, `"str"`, `"bin"`, `"ext"` or other."""
        return _HEADS.get(self.file.map[self.at], ("other", 0))[0]

    def data(self) -> tuple[int, tensors.Extent]:
        """Code (of an extension) and bytes of a text, bytes or extension; go past."""
        kind, length = _HEADS[self.file.map[self.at]]
        start = self.at + 1
        if isinstance(length, str):
            form = struct.Struct(">" + length)
            (length,) = form.unpack_from(self.file.map, start)
            start += form.size
        code = 0
        if kind == "ext":
            code, start = self.file.map[start], start + 1
        if not self.file.holds(start, length):
            raise ValueError(f"an object of {length} bytes has no end")
        self.at = start + length
        return code, tensors.Extent(start, length)

    def entries(self, prefix: tuple[str, ...]) -> None:
        if self.kind() != "map":
            raise self.error(prefix, "is not a msgpack map")
        count = self.library("read_map_header")
        self.left -= count
        if self.left < 0:
            raise self.error(prefix, f"has more than {_MOST_ENTRIES} entries")
        for _ in range(count):
            self.entry((*prefix, self.key(prefix)))

    def key(self, prefix: tuple[str, ...]) -> str:
        if self.kind() == "str":
            _, (start, length) = self.data()
            if length <= _LONGEST_KEY:
                return self.file.map[start : start + length].decode()
        raise self.error(prefix, f"a key is no text of up to {_LONGEST_KEY} bytes")

    def entry(self, path: tuple[str, ...]) -> None:
        kind = self.kind()
        if kind == "map":
            self.names.check_depth(path)
            self.entries(path)
        elif kind == "other":
            self.library("skip")
        else:
            code, extent = self.data()
            if kind == "ext" and code in (_NDARRAY, _SCALAR):
                name = self.names.joined(path)
                self.tensors[name] = self.array(extent, path)
            elif kind == "ext" and code != _COMPLEX:
                raise self.error(path, f"unknown extension type {code}")

    def array(
        self, body: tensors.Extent, path: tuple[str, ...]
    ) -> tensors.StoredTensor:
        """Shape, dtype and extent of an array from the body of its extension."""
        end, self.at = self.at, body.offset
        parts = "expected shape, dtype and bytes"
        with tensors.reading(self.file.path, tensors.SEPARATOR.join(path), parts):
            count = self.library("read_array_header")
            shape, dtype = self.library("unpack"), self.library("unpack")
            if count != 3 or self.kind() != "bin":
                raise ValueError(parts)
            _, data = self.data()
            if sum(data) != end:
                raise ValueError(parts)
            spec = tensors.checked_spec(shape, dtype)
            if spec.nbytes != data.nbytes:
                raise ValueError(
                    f"shape {spec.shape} of {spec.dtype} takes {spec.nbytes} bytes, "
                    f"{data.nbytes} are there"
                )
        self.at = end
        return tensors.StoredTensor(spec, data)

    def error(self, path: tuple[str, ...], reason: str) -> tensors.FormatError:
        return self.file.error(reason, tensors.SEPARATOR.join(path) or None)


# A file in order: heads as bytes, and data as the tensor's name and a count of bytes.
_Pieces = Iterator[bytes | tuple[str, int]]


def lay_out_flax(
    specs: Mapping[str, tensors.TensorSpec], metadata: Mapping[str, str]
) -> list[bytes | tuple[str, int]]:
    """The heads, and name and bytes of data, of a file as Flax itself writes it."""
    if metadata:
        raise ValueError(f"Flax's msgpack holds no metadata. Received: {metadata}")
    return list(_tree(tensors.nested(specs), specs))


def _tree(tree: dict[str, Any], specs: Mapping[str, tensors.TensorSpec]) -> _Pieces:
    yield msgpack.Packer().pack_map_header(len(tree))
    for key, node in tree.items():
        if len(key.encode()) > _LONGEST_KEY:
            raise ValueError(f"A map has a key of up to {_LONGEST_KEY} bytes: {key!r}")
        yield msgpack.packb(key)
        if isinstance(node, dict):
            yield from _tree(node, specs)
        else:
            yield _array_head(node, specs[node])
            yield node, specs[node].nbytes


def _array_head(name: str, spec: tensors.TensorSpec) -> bytes:
    if spec.nbytes > _LARGEST_ARRAY:
        raise ValueError(
            f"Flax has an array of up to {_LARGEST_ARRAY} bytes in one piece. "
            f"Received: {name!r} of {spec.nbytes}"
        )
    inner = b"\x93" + msgpack.packb(spec.shape) + msgpack.packb(spec.dtype)
    inner += _head(spec.nbytes, 0xC4)
    length = len(inner) + spec.nbytes
    short = {1: b"\xd4", 2: b"\xd5", 4: b"\xd6", 8: b"\xd7", 16: b"\xd8"}
    return (short.get(length) or _head(length, 0xC7)) + bytes([_NDARRAY]) + inner


def _head(length: int, first: int) -> bytes:
    """The shortest head of an object that holds so many bytes."""
    index = (length > 0xFF) + (length > 0xFFFF)
    return bytes([first + index]) + struct.pack(">" + "BHI"[index], length)
