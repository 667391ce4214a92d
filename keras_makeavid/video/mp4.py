"""H.264 in MP4, in the form that browsers play."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

# Visually lossless; 23 is x264's default.
CRF = 17
# Numbers of ITU-T H.273: BT.709 primaries and matrix, sRGB transfer, limited range.
BT709 = 1
SRGB_TRANSFER = 13
LIMITED_RANGE = 1


def write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    """Writes H.264 with 4:2:0 colour, index first so that it plays while it loads.

    4:2:0 needs even sides: of an odd one the last row or column is repeated.

    Args:
        path: The file to write, under any name.
        frames: `(F, H, W, 3)`, uint8, RGB.
        fps: Frames a second.

    Raises:
        ValueError: This build of PyAV has no H.264 encoder.
    """
    import av

    if "libx264" not in av.codecs_available:
        raise ValueError(
            "This build of PyAV has no H.264 encoder (libx264): install the `av` "
            "package from PyPI, or write .webp or .gif."
        )
    height, width = frames.shape[1:3]
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    options = {"movflags": "+faststart"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        # Of several threads the number would change the bytes.
        stream.options = {"crf": str(CRF), "threads": "1"}
        stream.codec_context.colorspace = BT709
        stream.codec_context.color_primaries = BT709
        stream.codec_context.color_trc = SRGB_TRANSFER
        stream.codec_context.color_range = LIMITED_RANGE
        for index, image in enumerate(frames):
            rgb = av.VideoFrame.from_ndarray(np.pad(image, padding, "edge"), "rgb24")
            frame = rgb.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
