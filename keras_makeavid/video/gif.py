"""Animated GIF with one palette made for the whole video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

HUNDREDTH = Fraction(1, 100)


def write_gif(path: Path, frames: np.ndarray, fps: float) -> None:
    """Writes a GIF that repeats for ever.

    One palette of 256 colours serves the whole video; errors are diffused, as smooth
    areas show bands otherwise (and did with OpenCV's own GIF encoder).

    Args:
        path: The file to write, under any name.
        frames: `(F, H, W, 3)`, uint8, RGB.
        fps: Frames a second, at most 50. Times are rounded to hundredths of a second
            so that the rate is kept on average.
    """
    import av

    height, width = frames.shape[1:3]
    graph, source, sink = _palette_graph(height, width)
    starts = np.round(np.arange(len(frames) + 1) * 100 / fps).astype(int)
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


def _palette_graph(height: int, width: int) -> tuple[Any, Any, Any]:
    import av.filter

    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=width, height=height, format="rgb24", time_base=HUNDREDTH
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
