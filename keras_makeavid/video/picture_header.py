"""Width and height of a picture file from its header, before anything is decoded."""

from __future__ import annotations

import struct
from typing import BinaryIO


def picture_size(file: BinaryIO) -> tuple[int, int] | None:
    """Reads the size that a PNG, JPEG, GIF, WebP or BMP file declares.

    A few kilobytes can declare a picture of gigabytes; this tells before it is built.

    Args:
        file: An open, seekable binary file, at its beginning.

    Returns:
        `(height, width)` in pixels before any EXIF rotation, or None for other formats
        and for files that cannot be followed.
    """
    head = file.read(32)
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png_size(file)
        elif head.startswith(b"\xff\xd8"):
            return _jpeg_size(file)
        elif head[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", head, 6)
        elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return _webp_size(head)
        elif head.startswith(b"BM") and head[14:18] != b"\x0c\0\0\0":
            width, height = struct.unpack_from("<ii", head, 18)
        else:
            return None
    except struct.error:
        return None
    return abs(height), abs(width)


def _png_size(file: BinaryIO) -> tuple[int, int] | None:
    width, height = struct.unpack(">II", _at(file, 16, 8))
    end = file.seek(0, 2)
    offset, kind = 8, b""
    # OpenCV was seen to allocate the 4 GB that a damaged chunk says it has.
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", _at(file, offset, 8))
        offset += length + 12
        if offset > end:
            return None
    return height, width


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(2)
    while file.read(1) == b"\xff":
        marker = file.read(1)
        while marker == b"\xff":
            marker = file.read(1)
        (length,) = struct.unpack(">H", file.read(2))
        # Start-of-frame markers; C4, C8 and CC are tables that share their range.
        if marker and 0xC0 <= marker[0] <= 0xCF and marker[0] not in (0xC4, 0xC8, 0xCC):
            _, height, width = struct.unpack(">BHH", file.read(5))
            return height, width
        file.seek(length - 2, 1)
    return None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(head[24:27], "little") + 1
        height = int.from_bytes(head[27:30], "little") + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", head, 26))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        return None
    return height, width
