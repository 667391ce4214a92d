"""Where the tensors go in a new file of Flax."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from weights_tools.containers.flax_msgpack_format import CHUNKED, LONGEST_KEY, NDARRAY
from weights_tools.containers.layout_plan import HeadersPlan
from weights_tools.containers.mapped_file import Extent
from weights_tools.containers.tensor_names import nested
from weights_tools.containers.tensor_spec import TensorSpec

# Beyond this Flax cuts an array: an object of msgpack has less than 2**32 bytes.
LARGEST_CHUNK = 2**30


def plan_flax_msgpack(
    specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]
) -> HeadersPlan:
    """Where each tensor goes in a new file of Flax, and the heads between them.

    Args:
        specs: shape and dtype of each tensor by name; slashes make nested maps.
        metadata: must be empty: the format has no place for it.

    Raises:
        ValueError: if there is metadata, or a name begins another.
    """
    if metadata:
        raise ValueError(f"Flax's msgpack holds no metadata. Received: {metadata}")
    heads: list[tuple[int, bytes]] = []
    extents: dict[str, list[Extent]] = {name: [] for name in specs}
    position = 0
    for piece in _tree(nested(specs), specs):
        if isinstance(piece, bytes):
            heads.append((position, piece))
            position += len(piece)
        else:
            name, nbytes = piece
            extents[name].append(Extent(position, nbytes))
            position += nbytes
    return HeadersPlan(
        size=position,
        heads=tuple(heads),
        extents={name: tuple(pieces) for name, pieces in extents.items()},
    )


# A file in order: heads as bytes, and data as the tensor's name and a count of bytes.
_Pieces = Iterator[bytes | tuple[str, int]]


def _tree(tree: dict[str, Any], specs: Mapping[str, TensorSpec]) -> _Pieces:
    yield _head(len(tree), 0x80, 16, 0xDE, "HI")
    for key, node in tree.items():
        if len(key.encode()) > LONGEST_KEY:
            raise ValueError(f"A map has a key of up to {LONGEST_KEY} bytes: {key!r}")
        yield _string(key)
        if isinstance(node, dict):
            yield from _tree(node, specs)
        else:
            yield from _tensor(node, specs[node])


def _tensor(name: str, spec: TensorSpec) -> _Pieces:
    if spec.nbytes <= LARGEST_CHUNK:
        yield from _array(name, spec)
        return
    itemsize = spec.numpy_dtype.itemsize
    most, size = LARGEST_CHUNK // itemsize, spec.nbytes // itemsize
    chunks = [min(most, size - start) for start in range(0, size, most)]
    yield _head(3, 0x80, 16, 0xDE, "HI") + _string(CHUNKED) + b"\xc3"
    yield _string("shape") + _head(len(spec.shape), 0x80, 16, 0xDE, "HI")
    for index, dimension in enumerate(spec.shape):
        yield _string(str(index)) + _integer(dimension)
    yield _string("chunks") + _head(len(chunks), 0x80, 16, 0xDE, "HI")
    for index, chunk in enumerate(chunks):
        yield _string(str(index))
        yield from _array(name, TensorSpec((chunk,), spec.dtype))


def _array(name: str, spec: TensorSpec) -> _Pieces:
    inner = b"\x93" + _head(len(spec.shape), 0x90, 16, 0xDC, "HI")
    inner += b"".join(map(_integer, spec.shape)) + _string(spec.dtype)
    inner += _head(spec.nbytes, 0, 0, 0xC4, "BHI")
    yield _extension(len(inner) + spec.nbytes) + inner
    yield name, spec.nbytes


def _extension(length: int) -> bytes:
    short = {1: b"\xd4", 2: b"\xd5", 4: b"\xd6", 8: b"\xd7", 16: b"\xd8"}
    head = short.get(length) or _head(length, 0, 0, 0xC7, "BHI")
    return head + bytes([NDARRAY])


def _string(text: str) -> bytes:
    encoded = text.encode()
    return _head(len(encoded), 0xA0, 32, 0xD9, "BHI") + encoded


def _integer(number: int) -> bytes:
    return _head(number, 0x00, 128, 0xCC, "BHIQ")


def _head(number: int, short: int, fewer: int, first: int, forms: str) -> bytes:
    """The shortest head for a number: in the first byte itself, or after it."""
    if number < fewer:
        return bytes([short | number])
    for index, form in enumerate(forms):
        if number < 1 << 8 * struct.calcsize(form):
            return bytes([first + index]) + struct.pack(">" + form, number)
    raise ValueError(f"msgpack cannot hold {number} of one thing")
