"""What the messages in an HDF5 header say of a dataset and its attributes."""

from __future__ import annotations

from typing import NamedTuple

from weights_tools.containers.hdf5_file import Hdf5Error, Hdf5File, unpacked

_FIXED, _FLOAT, _STRING, _OPAQUE, _ENUM, _VARIABLE = 0, 1, 3, 5, 8, 9
# Size; byte order, padding and sign; offset and precision; then location and size of
# exponent and mantissa, and bias.
_FLOATS = {
    (2, 0x20, 15, 0, 16, 10, 5, 0, 10, 15): "float16",
    (2, 0x20, 15, 0, 16, 7, 8, 0, 7, 127): "bfloat16",
    (4, 0x20, 31, 0, 32, 23, 8, 0, 23, 127): "float32",
    (8, 0x20, 63, 0, 64, 52, 11, 0, 52, 1023): "float64",
}
_MOST_DIMENSIONS = 32
# Filters: gzip, and the bytes of the elements sorted by their place.
DEFLATE, SHUFFLE = 1, 2
# A boolean for h5py is an enumeration of these, padded in the old version of the type.
_FALSE_TRUE = (b"FALSE\0TRUE\0\0\1", b"FALSE\0\0\0TRUE\0\0\0\0\0\1")


def parse_dataspace(body: bytes) -> tuple[int, ...]:
    """The shape that a dataspace message tells.

    Args:
        body: bytes of the message.

    Raises:
        Hdf5Error: if it is damaged or tells no shape.
    """
    version, rank, _, kind = unpacked("4B", body)
    if version not in (1, 2) or rank > _MOST_DIMENSIONS:
        raise Hdf5Error("has a damaged shape")
    # Version 2 knows datasets without any shape.
    if version == 2 and kind not in (0, 1):
        raise Hdf5Error("has no shape")
    return unpacked(f"{rank}Q", body, 8 if version == 1 else 4)


def parse_dtype(body: bytes) -> str:
    """The dtype that a datatype message tells.

    Args:
        body: bytes of the message.

    Returns:
        Its name for numpy, `"opaque"` for two bytes without a meaning, or `"text"` and
        `"text elsewhere"` for strings of fixed and variable length.

    Raises:
        Hdf5Error: if it is none of these.
    """
    first, bits, more, _, size = unpacked("4BL", body)
    kind, version = first & 0x0F, first >> 4
    if not 1 <= version <= 3:
        raise Hdf5Error("has a damaged dtype")
    if kind == _FIXED and size in (1, 2, 4, 8) and not bits & 0xF7:
        if unpacked("2H", body, 8) == (0, 8 * size):
            return f"{'' if bits & 8 else 'u'}int{8 * size}"
    elif kind == _FLOAT:
        name = _FLOATS.get((size, bits, more, *unpacked("2H4BL", body, 8)))
        if name:
            return name
    elif kind == _ENUM and (size, bits) == (1, 2):
        if parse_dtype(body[8:]) == "int8" and body[20:].startswith(_FALSE_TRUE):
            return "bool"
    elif kind == _OPAQUE and size == 2:
        return "opaque"
    elif kind == _STRING:
        return "text"
    elif kind == _VARIABLE and bits & 0x0F == 1:
        return "text elsewhere"
    raise Hdf5Error(
        f"has a dtype that no weight has: class {kind}, {size} bytes, or big-endian"
    )


class ChunkLayout(NamedTuple):
    """Where the chunks of a dataset are listed, and how large each is.

    Args:
        tree: address of the list.
        shape: of each chunk.
    """

    tree: int
    shape: tuple[int, ...]


class RunLayout(NamedTuple):
    """Where the data of a dataset in one piece lies.

    Args:
        offset: where it starts in the file.
        nbytes: how long it is.
    """

    offset: int
    nbytes: int


def parse_layout(body: bytes, offset: int, itemsize: int) -> ChunkLayout | RunLayout:
    """Where a layout message says that the data lies.

    Args:
        body: bytes of the message.
        offset: where they start in the file.
        itemsize: bytes of an element.

    Raises:
        Hdf5Error: if it is damaged, or the data lies in other files.
    """
    version, kind = unpacked("2B", body)
    if version != 3 or kind > 2:
        raise Hdf5Error("has its data in other files, or in a form that Keras has not")
    if kind == 0:
        (nbytes,) = unpacked("H", body, 2)
        return RunLayout(offset + 4, nbytes)
    if kind == 1:
        return RunLayout(*unpacked("2Q", body, 2))
    rank, tree = unpacked("BQ", body, 2)
    *shape, last = unpacked(f"{max(rank, 1)}L", body, 11)
    if last != itemsize or 0 in shape:
        raise Hdf5Error("is damaged: its chunks are not of its dtype")
    return ChunkLayout(tree, tuple(shape))


def parse_filters(body: bytes, itemsize: int) -> list[int]:
    """The filters that a chunk went through before it was stored, in order.

    Args:
        body: bytes of the filter message.
        itemsize: bytes of an element.

    Raises:
        Hdf5Error: if it is damaged.
    """
    version, number_of_filters = unpacked("2B", body)
    if version not in (1, 2):
        raise Hdf5Error("has damaged filters")
    filters, position = [], 8 if version == 1 else 2
    for _ in range(number_of_filters):
        (number,) = unpacked("H", body, position)
        position += 2
        length = 0
        if version == 1 or number >= 256:
            (length,) = unpacked("H", body, position)
            position += 2
        _, count = unpacked("2H", body, position)
        position += 4 + length
        values = unpacked(f"{count}L", body, position)
        if number == SHUFFLE and values != (itemsize,):
            raise Hdf5Error("is damaged: it was shuffled by another dtype")
        # Version 1 pads to eight bytes.
        position += 4 * (count + (count % 2 if version == 1 else 0))
        filters.append(number)
    return filters


class Attribute(NamedTuple):
    """What an attribute message tells.

    Args:
        name: bytes of its name.
        dtype: as `parse_dtype` tells it.
        itemsize: bytes of an element.
        shape: its dimensions.
        value: bytes of its elements, and what fills up the message.
    """

    name: bytes
    dtype: str
    itemsize: int
    shape: tuple[int, ...]
    value: bytes


def parse_attribute(body: bytes) -> Attribute | None:
    """Name and value of an attribute, if it is of a dtype that is known.

    Args:
        body: bytes of the attribute message.

    Raises:
        Hdf5Error: if it is damaged.
    """
    version, _, *lengths = unpacked("2B3H", body)
    if not 1 <= version <= 3:
        raise Hdf5Error("has a damaged attribute")
    position, parts = 9 if version == 3 else 8, []
    for length in lengths:
        parts.append(body[position : position + length])
        position += length + (-length % 8 if version == 1 else 0)
    name, dtype, space = parts
    try:
        kind, shape = parse_dtype(dtype), parse_dataspace(space)
    except Hdf5Error:
        return None
    (itemsize,) = unpacked("L", dtype, 4)
    return Attribute(name.rstrip(b"\0"), kind, itemsize, shape, body[position:])


def parse_text_attribute(hdf5: Hdf5File, body: bytes) -> tuple[str, str] | None:
    """Name and value of an attribute, if it is a single text.

    Args:
        hdf5: the file, which may hold the text elsewhere.
        body: bytes of the attribute message.

    Raises:
        Hdf5Error: if it is damaged.
    """
    attribute = parse_attribute(body)
    if attribute is None or attribute.shape != ():
        return None
    if attribute.dtype not in ("text", "text elsewhere"):
        return None
    value = attribute.value
    if attribute.dtype == "text elsewhere":
        value = text_elsewhere(hdf5, value)
    try:
        return attribute.name.decode(), value.rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise Hdf5Error("has an attribute that is not in UTF-8") from error


def text_elsewhere(hdf5: Hdf5File, reference: bytes) -> bytes:
    """A text of variable length, which stands apart from its attribute.

    Args:
        hdf5: the file.
        reference: bytes of the element that tells where.

    Raises:
        Hdf5Error: if it is not there.
    """
    length, address, index = unpacked("LQL", reference)
    return hdf5.heap_object(address, index)[:length]
