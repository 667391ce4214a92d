"""Where the files of an uncompressed zip archive lie."""

from __future__ import annotations

import struct

from weights_tools.containers.errors import ContainerError, shortened
from weights_tools.containers.mapped_file import Extent, MappedFile

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 2**16
# A hundred times that of a full training checkpoint of this family.
_LONGEST_DIRECTORY = 16 * 2**20
_ELSEWHERE = 2**32 - 1
_ENCRYPTED = 1


def is_zip(start: bytes) -> bool:
    """Whether a file that starts so is meant as a zip archive.

    Args:
        start: its first bytes, at least four.

    Example:
    ```python
    is_zip(b"PK" + bytes([3, 4]))  # True
    ```
    """
    return start[:4] == b"PK\x03\x04"


def zip_extents(file: MappedFile) -> dict[str, Extent]:
    """Where the bytes of each file in a zip archive lie.

    Args:
        file: the mapped archive.

    Raises:
        ContainerError: if it is damaged, or anything in it is compressed or encrypted.
    """
    try:
        return _extents(file, *_directory(file))
    except struct.error as error:
        raise ContainerError(file.path, f"is a damaged zip archive: {error}") from error


def _directory(file: MappedFile) -> tuple[int, int]:
    """Offset and length of the central directory."""
    tail = max(0, file.size - _END.size - _LONGEST_COMMENT)
    at = file.map.rfind(b"PK\x05\x06", tail)
    if at < 0:
        raise ContainerError(
            file.path, "is a truncated zip archive: it has no directory at its end"
        )
    _, _, _, _, _, length, offset, _ = _END.unpack_from(file.map, at)
    locator = at - _LOCATOR.size
    if locator >= 0 and file.map[locator : locator + 4] == b"PK\x06\x07":
        _, _, end64, _ = _LOCATOR.unpack_from(file.map, locator)
        record = file.piece(end64, _END64.size, "the end of the zip directory")
        *_, length, offset = _END64.unpack(record)
    if length > _LONGEST_DIRECTORY:
        raise ContainerError(
            file.path,
            f"zip directory of {length} bytes, expected at most {_LONGEST_DIRECTORY}",
        )
    return offset, length


def _extents(file: MappedFile, offset: int, length: int) -> dict[str, Extent]:
    directory = file.piece(offset, length, "the zip directory")
    found: dict[str, Extent] = {}
    position = 0
    while position < len(directory):
        entry = _ENTRY.unpack_from(directory, position)
        name_length, extra_length, comment_length = entry[10:13]
        start = position + _ENTRY.size
        raw = directory[start : start + name_length]
        extra = directory[start + name_length :][:extra_length]
        position = start + name_length + extra_length + comment_length
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ContainerError(file.path, f"zip entry {shortened(raw)}") from error
        if entry[0] != b"PK\x01\x02" or name in found:
            raise ContainerError(
                file.path, f"is a damaged zip archive at entry {shortened(name)}"
            )
        found[name] = _extent(file, name, entry, extra)
    return found


def _extent(file: MappedFile, name: str, entry: tuple, extra: bytes) -> Extent:
    flags, method = entry[3:5]
    if method or flags & _ENCRYPTED:
        raise ContainerError(
            file.path, f"zip entry {shortened(name)} is compressed or encrypted"
        )
    stored, size, local = _large_sizes(extra, (entry[8], entry[9], entry[16]))
    head = file.piece(local, _LOCAL.size, f"zip entry {shortened(name)}")
    signature, *_, name_length, extra_length = _LOCAL.unpack(head)
    start = local + _LOCAL.size + name_length + extra_length
    if signature != b"PK\x03\x04" or stored != size or not file.holds(start, size):
        raise ContainerError(
            file.path, f"is a truncated or damaged zip archive at {shortened(name)}"
        )
    return Extent(start, size)


def _large_sizes(extra: bytes, sizes: tuple[int, int, int]) -> tuple[int, int, int]:
    """Stored size, size and offset, which stand in an extra field if they are large."""
    if _ELSEWHERE not in sizes:
        return sizes
    position = 0
    while position < len(extra):
        code, length = struct.unpack_from("<HH", extra, position)
        if code == 1:
            large = iter(struct.iter_unpack("<Q", extra[position + 4 :][:length]))
            # The extra field has the size before the stored size.
            size, stored, offset = (
                next(large, (n,))[0] if n == _ELSEWHERE else n
                for n in (sizes[1], sizes[0], sizes[2])
            )
            return stored, size, offset
        position += 4 + length
    return sizes
