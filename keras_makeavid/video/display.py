"""How a video file says that its stored frames are to be shown."""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import numpy as np

# PixelCropBottom, PixelCropTop, PixelCropLeft and PixelCropRight of Matroska.
_CROP = re.compile(rb"\x54([\xaa\xbb\xcc\xdd])([\x81-\x84])(?=(.{4}))", re.DOTALL)


def crop_of(stream: Any) -> tuple[int, int, int, int]:
    """Find the crop rectangle that a container gives to a stream.

    FFmpeg reads it, whatever the container, and PyAV does not hand it on: so FFmpeg is
    asked to write a header of Matroska for the stream, in memory.

    Args:
        stream: A video stream of PyAV.

    Returns:
        Rows at the top and at the bottom, columns on the left and on the right that
        are not shown. All 0 if there is no crop, or none that makes sense.
    """
    import av

    header = io.BytesIO()
    try:
        with av.open(header, "w", format="matroska") as copy:
            copy.add_stream_from_template(stream)
            copy.start_encoding()
    except (av.FFmpegError, ValueError):
        return 0, 0, 0, 0
    # Without what the codec says, which may look like anything.
    contents = header.getvalue().replace(stream.codec_context.extradata or b"", b"")
    found = {
        kind: int.from_bytes(value[: size[0] - 0x80], "big")
        for kind, size, value in _CROP.findall(contents)
    }
    sides = (b"\xbb", b"\xaa", b"\xcc", b"\xdd")
    top, bottom, left, right = (found.get(side, 0) for side in sides)
    height, width = stream.codec_context.height, stream.codec_context.width
    if top + bottom >= height or left + right >= width:
        return 0, 0, 0, 0
    return top, bottom, left, right


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
        image = image.swapaxes(0, 1)
        a, d = c, b
    if a < 0:
        image = image[:, ::-1]
    return image[::-1] if d < 0 else image
