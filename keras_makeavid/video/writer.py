"""Writing video files, the format chosen by the path."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np

from keras_makeavid.files import (
    StrPath,
    existing_parent,
    folder_written_aside,
    written_aside,
)
from keras_makeavid.video.encoders import write_gif, write_mp4, write_webp
from keras_makeavid.video.pictures import encode_image
from keras_makeavid.video.resize import check_frames

WRITERS = {".mp4": write_mp4, ".gif": write_gif, ".webp": write_webp}
LARGEST_SIDE = {".mp4": 16384, ".gif": 65535, ".webp": 16383}
SLOWEST_RATE = 0.01
# A GIF counts in hundredths of a second, and browsers slow down what lasts only one.
FASTEST_RATE = {".mp4": 240, ".gif": 50, ".webp": 240}
FRAME_NAME = re.compile(r"frame_\d{4,}\.png")


def write_video(path: StrPath, frames: np.ndarray, fps: float = 8) -> None:
    """Write a video in the format that the path names.

    | path | format |
    |---|---|
    | `.mp4` | H.264, plays in browsers; odd sides grow by one pixel |
    | `.gif` | animated GIF, repeats for ever |
    | `.webp` | animated WebP, repeats for ever |
    | no suffix, a slash at the end, a folder | `frame_0000.png`, ... |

    The same frames give the same bytes. What was there is replaced at the end, whole
    or not at all.

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
        write_video("noise", frames)  # noise/frame_0000.png ...
        ```
    """
    check_video_path(path, fps)
    frames = check_frames(frames)
    path, suffix = Path(path), _suffix(path)
    if suffix is None:
        _write_png_frames(path, frames)
        return
    _check_sides(suffix, frames)
    with written_aside(path) as aside:
        WRITERS[suffix](aside, frames, fps)


def check_video_path(path: StrPath, fps: float = 8) -> None:
    """Raise what `write_video` would, before there are frames to write.

    Args:
        path: As for `write_video`.
        fps: As for `write_video`.

    Raises:
        FileNotFoundError: The folder to write in does not exist.
        FileExistsError: PNG frames would replace something other than PNG frames.
        ValueError: Suffix or rate are not such as `write_video` takes.

    Example:
        ```python
        check_video_path("rain.mp4", fps=12)
        ```
    """
    existing_parent(path)
    suffix = _suffix(path)
    if not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps must be positive and finite. Received: {fps!r}")
    if suffix is None:
        _check_frames_folder(Path(path))
        return
    if suffix not in WRITERS:
        raise ValueError(
            f"A video must be written as {', '.join(WRITERS)}, or a folder (no suffix) "
            f"for PNG frames. Received: {suffix!r} ({path})"
        )
    fastest = FASTEST_RATE[suffix]
    if not SLOWEST_RATE <= fps <= fastest:
        raise ValueError(
            f"{suffix} is written at {SLOWEST_RATE} to {fastest} frames a second. "
            f"Received: fps={fps!r}"
        )


def _suffix(path: StrPath) -> str | None:
    """The suffix that names the format, None for a folder of frames."""
    if os.fspath(path).endswith(("/", os.sep)) or Path(path).is_dir():
        return None
    return Path(path).suffix.lower() or None


def _check_sides(suffix: str, frames: np.ndarray) -> None:
    height, width = frames.shape[1:3]
    if max(height, width) > LARGEST_SIDE[suffix]:
        raise ValueError(
            f"{suffix} holds at most {LARGEST_SIDE[suffix]} pixels a side. "
            f"Received: {width} x {height}"
        )


def _check_frames_folder(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise FileExistsError(f"{path} is a file, expected a folder of PNG frames.")
    others = [entry.name for entry in path.iterdir() if not _is_frame(entry)]
    if others:
        raise FileExistsError(
            f"{path} holds more than PNG frames, {others[0]!r} for one: "
            "choose another folder."
        )


def _write_png_frames(path: Path, frames: np.ndarray) -> None:
    with folder_written_aside(path) as aside:
        for index, frame in enumerate(frames):
            name = f"frame_{index:04d}.png"
            (aside / name).write_bytes(encode_image(frame, ".png"))


def _is_frame(entry: Path) -> bool:
    return bool(FRAME_NAME.fullmatch(entry.name)) and entry.is_file()
