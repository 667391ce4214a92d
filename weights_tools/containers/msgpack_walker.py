"""The heads of msgpack objects, read without the objects."""

from __future__ import annotations

import struct
from typing import NamedTuple

from weights_tools.containers.errors import ContainerError
from weights_tools.containers.mapped_file import MappedFile


class Head(NamedTuple):
    """What an object is, and where it goes on.

    Args:
        kind: `"map"`, `"array"`, `"str"`, `"bin"`, `"ext"`, `"int"` or `"other"`.
        value: of an int the number, of a map or array its length, of the others the
            number of bytes that follow.
        body: offset of what follows the head.
        code: type of an extension.
    """

    kind: str
    value: int
    body: int
    code: int = 0


# Of each first byte from 0xc0 on: the kind, and the struct format of its length or
# number. 0xc1 stands for nothing.
_LONG_HEADS: dict[int, tuple[str, str]] = {
    **{0xC0: ("other", ""), 0xC2: ("other", ""), 0xC3: ("other", "")},
    **{0xC4: ("bin", "B"), 0xC5: ("bin", "H"), 0xC6: ("bin", "I")},
    **{0xC7: ("ext", "B"), 0xC8: ("ext", "H"), 0xC9: ("ext", "I")},
    **{0xCC: ("int", "B"), 0xCD: ("int", "H"), 0xCE: ("int", "I"), 0xCF: ("int", "Q")},
    **{0xD0: ("int", "b"), 0xD1: ("int", "h"), 0xD2: ("int", "i"), 0xD3: ("int", "q")},
    **{0xD9: ("str", "B"), 0xDA: ("str", "H"), 0xDB: ("str", "I")},
    **{0xDC: ("array", "H"), 0xDD: ("array", "I")},
    **{0xDE: ("map", "H"), 0xDF: ("map", "I")},
}
# First bytes of objects whose body has a length of its own.
_FIXED_BODIES = {0xCA: ("other", 4), 0xCB: ("other", 8)}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


def read_head(file: MappedFile, offset: int, end: int) -> Head:
    """Read the head of the object at an offset.

    Args:
        file: the mapped file.
        offset: where the object starts.
        end: where the object around it ends.

    Returns:
        Its head; what follows it, if of known length, lies before `end`.

    Raises:
        ContainerError: if there is no such object, or it goes on past `end`.
    """
    if offset >= end:
        raise _too_long(file, offset)
    first = file.map[offset]
    head = _short_head(first, offset + 1) or _long_head(file, first, offset + 1, end)
    # Each entry of a map or array takes a byte at least.
    needed = 0 if head.kind == "int" else head.value
    if head.body + needed > end:
        raise _too_long(file, offset)
    return head


def _short_head(first: int, body: int) -> Head | None:
    if first < 0x80:
        return Head("int", first, body)
    if first < 0x90:
        return Head("map", first & 0x0F, body)
    if first < 0xA0:
        return Head("array", first & 0x0F, body)
    if first < 0xC0:
        return Head("str", first & 0x1F, body)
    if first >= 0xE0:
        return Head("int", first - 0x100, body)
    if first in _FIXED_BODIES:
        kind, nbytes = _FIXED_BODIES[first]
        return Head(kind, nbytes, body)
    return None


def _long_head(file: MappedFile, first: int, body: int, end: int) -> Head:
    if first in _FIXED_EXTENSIONS:
        if body >= end:
            raise _too_long(file, body)
        return Head("ext", _FIXED_EXTENSIONS[first], body + 1, file.map[body])
    if first not in _LONG_HEADS:
        raise ContainerError(file.path, f"no msgpack starts as the byte {body - 1}")
    kind, form = _LONG_HEADS[first]
    number = struct.Struct(">" + form)
    after = body + number.size + (kind == "ext")
    if after > end:
        raise _too_long(file, body)
    value = number.unpack_from(file.map, body)[0] if form else 0
    code = file.map[after - 1] if kind == "ext" else 0
    return Head(kind, value, after, code)


def _too_long(file: MappedFile, offset: int) -> ContainerError:
    return ContainerError(
        file.path, f"is truncated or damaged: the object at byte {offset} has no end"
    )
