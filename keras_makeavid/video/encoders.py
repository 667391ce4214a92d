"""Frames as MP4, GIF and WebP files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

# Visually lossless; 23 is x264's default.
CRF = 17
# Numbers of ITU-T H.273: BT.709 primaries and matrix, sRGB transfer, limited range.
BT709 = 1
SRGB_TRANSFER = 13
LIMITED_RANGE = 1
WEBP_QUALITY = 90
HUNDREDTH = Fraction(1, 100)


def write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write H.264 with 4:2:0 colour, index first so that it plays while it loads.

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


def write_webp(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write an animated WebP that repeats for ever.

    Neighbouring frames that are equal are stored as one of longer duration, a video
    of equal frames as a still picture.

    Args:
        path: The file to write.
        frames: `(F, H, W, 3)`, uint8, RGB.
        fps: Frames a second; durations are rounded to whole milliseconds so that the
            rate is kept on average.
    """
    from PIL import Image

    first, *rest = map(Image.fromarray, frames)
    first.save(
        path,
        "WEBP",
        save_all=True,
        append_images=rest,
        duration=np.diff(_starts(len(frames), 1000 / fps)).tolist(),
        loop=0,
        quality=WEBP_QUALITY,
    )


def write_gif(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write a GIF that repeats for ever.

    One palette of 256 colours serves the whole video; errors are diffused, as smooth
    areas show bands otherwise.

    Args:
        path: The file to write, under any name.
        frames: `(F, H, W, 3)`, uint8, RGB.
        fps: Frames a second, at most 50. Times are rounded to hundredths of a second
            so that the rate is kept on average.
    """
    import av

    height, width = frames.shape[1:3]
    graph, source, sink = _palette_graph(height, width)
    starts = _starts(len(frames), 100 / fps)
    options = {"loop": "0", "final_delay": str(starts[-1] - starts[-2])}
    with av.open(str(path), "w", format="gif", options=options) as container:
        stream = container.add_stream("gif", rate=100)
        stream.height, stream.width = height, width
        stream.pix_fmt = "pal8"
        stream.codec_context.time_base = HUNDREDTH
        for start, image in zip(starts[:-1], frames, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            frame.pts, frame.time_base = int(start), HUNDREDTH
            source.push(frame)
        source.push(None)
        for _ in frames:
            container.mux(stream.encode(sink.pull()))
        container.mux(stream.encode(None))


def _starts(count: int, ticks: float) -> np.ndarray:
    """When each of `count` frames starts, and the last ends, in whole ticks."""
    return np.round(np.arange(count + 1) * ticks).astype(int)


def _palette_graph(height: int, width: int) -> tuple[Any, Any, Any]:
    import av.filter

    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=width,
        height=height,
        format=av.VideoFormat("rgb24"),
        time_base=HUNDREDTH,
    )
    split = graph.add("split")
    palette = graph.add("palettegen")
    dithered = graph.add("paletteuse", "dither=sierra2_4a")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(dithered, 1, 0)
    palette.link_to(dithered, 0, 1)
    dithered.link_to(sink)
    graph.configure()
    return graph, source, sink
