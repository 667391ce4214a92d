"""Writing video files, the format chosen by the path."""

import math
import os
import re
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from keras_makeavid.files import (
    StrPath,
    existing_parent,
    folder_written_aside,
    written_aside,
)
from keras_makeavid.video.pictures import encode_image
from keras_makeavid.video.resize import check_frames

LARGEST_SIDE = {".mp4": 16384, ".gif": 65535, ".webp": 16383}
SLOWEST_RATE = 0.01
# A GIF counts in hundredths of a second, and browsers slow down what lasts only one.
FASTEST_RATE = {".mp4": 240, ".gif": 50, ".webp": 240}
# Visually lossless; 23 is x264's default.
CRF = 17
WEBP_QUALITY = 90
FRAME_NAME = re.compile(r"frame_\d{4,}\.png")


def write_video(path: StrPath, frames: np.ndarray, fps: float = 8) -> None:
    """Write a video in the format that the path names.

    | path | format |
    |---|---|
    | `.mp4` | H.264, plays in browsers; odd sides grow by one pixel |
    | `.gif` | animated GIF, repeats for ever |
    | `.webp` | animated WebP, repeats for ever |
    | no suffix, a slash at the end, a folder | `frame_0000.png`, ... |

    The same frames give the same bytes. In GIF and WebP, neighbours that are equal are
    one frame that lasts longer. What was there is replaced whole at the end.

    Args:
        path: The file or folder to write, in a folder that exists.
        frames: `(F, H, W, 3)`, uint8, RGB.
        fps: Frames a second, from 0.01 to 240 (to 50 for GIF). PNG frames carry none.

    Raises:
        FileNotFoundError: The folder to write in does not exist.
        FileExistsError: PNG frames would replace something other than PNG frames.
        ValueError: Suffix, frames or rate are not as above.

    Example:
    ```python
    frames = np.random.randint(0, 256, (24, 64, 64, 3), "uint8")
    write_video("noise.mp4", frames, fps=8)
    ```
    """
    check_video_path(path, fps)
    frames = check_frames(frames)
    path, suffix = Path(path), _suffix(path)
    if suffix is None:
        with folder_written_aside(path) as folder:
            for index, frame in enumerate(frames):
                name = f"frame_{index:04d}.png"
                (folder / name).write_bytes(encode_image(frame, ".png"))
        return
    height, width = frames.shape[1:3]
    if max(height, width) > LARGEST_SIDE[suffix]:
        expected = f"{suffix} holds at most {LARGEST_SIDE[suffix]} pixels a side"
        raise ValueError(f"{expected}. Received: {width} x {height}")
    with written_aside(path) as aside:
        WRITERS[suffix](aside, frames, fps)


def encode_video(suffix: str, frames: np.ndarray, fps: float = 8) -> bytes:
    """What `write_video` would write into a file of this suffix."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"video{suffix}")
        write_video(path, frames, fps)
        return path.read_bytes()


def check_video_path(path: StrPath, fps: float = 8) -> None:
    """Raise what `write_video` would, before there are frames to write."""
    existing_parent(path)
    suffix = _suffix(path)
    if not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps must be positive and finite. Received: {fps!r}")
    if suffix is None:
        if Path(path).is_file():
            raise FileExistsError(f"{path} is a file, expected a folder of PNG frames.")
        for entry in Path(path).glob("*"):
            if not FRAME_NAME.fullmatch(entry.name) or not entry.is_file():
                problem = f"{path} holds more than PNG frames, {entry.name!r} for one"
                raise FileExistsError(f"{problem}: choose another folder.")
        return
    if suffix not in WRITERS:
        raise ValueError(
            f"A video must be written as {', '.join(WRITERS)}, or a folder (no suffix) "
            f"for PNG frames. Received: {suffix!r} ({path})"
        )
    fastest = FASTEST_RATE[suffix]
    if not SLOWEST_RATE <= fps <= fastest:
        expected = f"{suffix} is written at {SLOWEST_RATE} to {fastest} frames a second"
        raise ValueError(f"{expected}. Received: fps={fps!r}")


def _suffix(path: StrPath) -> str | None:
    """The suffix that names the format, None for a folder of frames."""
    if os.fspath(path).endswith(("/", os.sep)) or Path(path).is_dir():
        return None
    return Path(path).suffix.lower() or None


def write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write H.264, index first; 4:2:0 needs even sides, so the last line repeats."""
    import av

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
        # By ITU-T H.273: matrix and primaries of BT.709, of sRGB, limited range.
        codec = stream.codec_context
        codec.colorspace, codec.color_primaries = 1, 1
        codec.color_trc, codec.color_range = 13, 1
        for index, image in enumerate(frames):
            rgb = av.VideoFrame.from_ndarray(np.pad(image, padding, "edge"), "rgb24")
            frame = rgb.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_webp(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write an animated WebP."""
    durations = np.diff(_starts(len(frames), 1000 / fps))
    _save_animation(path, "WEBP", frames, durations, quality=WEBP_QUALITY)


def write_gif(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write a GIF, each frame with a palette of its own."""
    durations = 10 * np.diff(_starts(len(frames), 100 / fps))
    _save_animation(path, "GIF", frames, durations)


def _save_animation(path, kind, frames, durations, **options) -> None:
    """Write frames of so many milliseconds; neighbours that are equal are one frame."""
    from PIL import Image

    first, *rest = map(Image.fromarray, frames)
    timing = {"duration": durations.tolist(), "loop": 0}
    first.save(path, kind, save_all=True, append_images=rest, **timing, **options)


def _starts(count: int, ticks: float) -> np.ndarray:
    """When each of `count` frames starts, and the last ends, in whole ticks."""
    return np.round(np.arange(count + 1) * ticks).astype(int)


WRITERS = {".mp4": write_mp4, ".gif": write_gif, ".webp": write_webp}
