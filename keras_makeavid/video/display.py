"""How a video file says that its stored frames are to be shown."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Nesting of Matroska: Segment, Tracks, TrackEntry, Video.
_MATROSKA_PARENTS = (0x18538067, 0x1654AE6B, 0xAE, 0xE0)
_MATROSKA_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}
_MOST_HEADER_BYTES = 2**24


class Crop(NamedTuple):
    """Lines of a stored frame that are not shown.

    Attributes:
        top: Rows at the top.
        bottom: Rows at the bottom.
        left: Columns on the left.
        right: Columns on the right.
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


def container_crop(path: Path, height: int, width: int) -> Crop:
    """Find the crop rectangle of an MP4, QuickTime or Matroska file.

    FFmpeg's libraries read it and leave it to the caller, and PyAV does not hand it
    on. What makes no sense is passed over.

    Args:
        path: The file.
        height: Rows of a stored frame.
        width: Columns of a stored frame.

    Returns:
        The crop, all 0 if the file has none.
    """
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            crop = _matroska_crop(file.read(_MOST_HEADER_BYTES))
        elif head[4:] == b"ftyp":
            crop = _clean_aperture(_movie_box(file), height, width)
        else:
            crop = Crop()
    shown = height - crop.top - crop.bottom, width - crop.left - crop.right
    return crop if min(*crop) >= 0 and min(shown) > 0 else Crop()


def upright(image: np.ndarray, matrix: bytes | None) -> np.ndarray:
    """Turn and mirror a frame as its display matrix says, by quarter turns.

    Args:
        image: `(H, W, C)`.
        matrix: Nine 32-bit numbers `a, b, u, c, d, v, x, y, w`, by which the point
            `(p, q)` is shown at `(a p + c q, b p + d q)`, or None.

    Returns:
        The frame as it is shown.
    """
    if matrix is None or len(matrix) < 36:
        return image
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    if abs(a) + abs(d) < abs(b) + abs(c):
        image = image.transpose(1, 0, *range(2, image.ndim))
        a, d = c, b
    if a < 0:
        image = image[:, ::-1]
    return image[::-1] if d < 0 else image


def _movie_box(file) -> bytes:
    """Contents of the box `moov` of an MP4 file."""
    while len(header := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", header)
        read = 8
        if size == 1:
            size, read = int.from_bytes(file.read(8), "big"), 16
        if kind == b"moov":
            return file.read(min(size, _MOST_HEADER_BYTES))
        if size < read:
            break
        file.seek(size - read, 1)
    return b""


def _clean_aperture(movie: bytes, height: int, width: int) -> Crop:
    box = movie.find(b"\0\0\0\x28clap")
    if box < 0 or len(movie) < box + 40:
        return Crop()
    numbers = struct.unpack_from(">IIIIiIiI", movie, box + 8)
    if not all(numbers[1::2]):
        return Crop()
    columns, rows, right, down = map(Fraction, numbers[::2], numbers[1::2])
    left = round((width - columns) / 2 + right)
    top = round((height - rows) / 2 + down)
    return Crop(top, height - top - round(rows), left, width - left - round(columns))


def _matroska_crop(contents: bytes) -> Crop:
    spans = [(0, len(contents))]
    for parent in _MATROSKA_PARENTS:
        spans = [
            (start, end)
            for span in spans
            for kind, start, end in _elements(contents, *span)
            if kind == parent
        ]
    for start, end in spans:
        found = {
            _MATROSKA_CROPS[kind]: int.from_bytes(contents[first:last], "big")
            for kind, first, last in _elements(contents, start, end)
            if kind in _MATROSKA_CROPS
        }
        if found:
            return Crop(**found)
    return Crop()


def _elements(contents: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of each element of Matroska in a span."""
    while at < end:
        kind, at, _ = _number(contents, at, marked=True)
        size, at, unknown = _number(contents, at)
        if at > end:
            return
        stop = end if unknown else min(end, at + size)
        yield kind, at, stop
        at = stop


def _number(contents, at, marked=False):
    """A number of variable length, where it ends, and whether all its bits are 1."""
    first = contents[at] if at < len(contents) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return 0, len(contents) + 1, False
    value = int.from_bytes(contents[at : at + length], "big")
    mask = (1 << 7 * length) - 1
    return value if marked else value & mask, at + length, value & mask == mask
