"""From a video file to the frames to encode: the part that worker processes do.

Nothing here imports Keras: a process that did would start an accelerator.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.data.clip_filter import ClipFilter
from keras_makeavid.video.clip import open_clip
from keras_makeavid.video.reader import MAX_BYTES, read_video
from keras_makeavid.video.scenes import find_scenes


@dataclass(frozen=True)
class ClipSettings:
    """How every clip is read.

    Args:
        height: rows to scale and crop to.
        width: columns.
        fps: frames a second to resample to; `None` keeps the clip's own.
        num_frames: frames to take; `None` takes all.
        start: where to begin, in seconds.
        split_scenes: whether each scene is a clip of its own.
    """

    height: int
    width: int
    fps: float | None
    num_frames: int | None
    start: float
    split_scenes: bool


@dataclass(frozen=True)
class ClipPart:
    """A run of frames that becomes one clip of the dataset.

    Args:
        suffix: what the file's id is followed by.
        frames: `(F, H, W, 3)`, uint8; or what they were encoded as, latents and text
            states, where a worker of Ray has done so.
        facts: what is known of it, for its metadata.
    """

    suffix: str
    frames: np.ndarray | tuple[np.ndarray, np.ndarray]
    facts: dict[str, Any]


@dataclass(frozen=True)
class ClipContent:
    """What reading a clip gave.

    Args:
        unchanged: whether the file is the one of the SHA-256 that was expected; then
            it was not decoded.
        parts: what to encode.
        dropped: suffix of each part that was filtered out, and why.
        failed: why the clip cannot be read, if it cannot.
        readable: whether the bytes of the file, at least, could be read.
    """

    unchanged: bool = False
    parts: list[ClipPart] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    failed: str | None = None
    readable: bool = True


def read_clip(
    path: Path,
    settings: ClipSettings,
    clip_filter: ClipFilter,
    expected_sha256: str | None,
) -> ClipContent:
    """Read the frames of a clip, unless it is known.

    Args:
        path: the video file.
        settings: how to read it.
        clip_filter: what to leave out.
        expected_sha256: of the file of which everything is encoded already, if so.

    Returns:
        What there is to encode; a file that cannot be read is no exception.

    Example:
        ```python
        settings = ClipSettings(512, 512, 8.0, None, 0.0, split_scenes=True)
        content = read_clip(Path("film.mp4"), settings, ClipFilter(), None)
        ```
    """
    try:
        sha256 = _sha256(path)
    except OSError as error:
        return ClipContent(failed=str(error), readable=False)
    if sha256 == expected_sha256:
        return ClipContent(unchanged=True)
    try:
        return _read_parts(path, settings, clip_filter, sha256)
    except (ValueError, OSError) as error:
        return ClipContent(failed=str(error))


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_parts(path, settings, clip_filter, sha256):
    with open_clip(path, MAX_BYTES) as clip:
        height, width, rate = clip.height, clip.width, clip.rate
    reason = clip_filter.of_source(height, width, rate)
    if reason:
        return ClipContent(dropped={"": reason})
    source = {
        "source_sha256": sha256,
        "source_height": height,
        "source_width": width,
        "source_fps": rate,
    }
    least = max(clip_filter.min_frames, settings.num_frames or 0)
    lengths = replace(clip_filter, min_frames=least)
    parts, dropped = [], {}
    for suffix, start, available, facts in _windows(path, settings, rate):
        reason = None if available is None else lengths.of_length(available)
        if reason is None:
            frames = read_video(
                path,
                start=start,
                num_frames=settings.num_frames or available,
                fps=settings.fps,
                height=settings.height,
                width=settings.width,
            )
            reason = lengths.of_length(len(frames))
        if reason is None:
            fps = settings.fps or rate
            length = {"frames": len(frames), "fps": fps, "duration": len(frames) / fps}
            parts.append(ClipPart(suffix, frames, {**length, **source, **facts}))
        else:
            dropped[suffix] = reason
    return ClipContent(parts=parts, dropped=dropped)


def _windows(path, settings, rate):
    """Suffix, start, number of frames if known, and facts of each clip of a file."""
    scenes = find_scenes(path) if settings.split_scenes else []
    if len(scenes) < 2:
        yield "", settings.start, None, {}
        return
    for number, times in enumerate(scenes, start=1):
        # Half a frame early still means the frame, as for `read_video`.
        times = times[times >= settings.start - 0.5 / rate]
        if len(times):
            start = float(max(times[0], settings.start))
            frames = _frames_until(times[-1], start, len(times), settings.fps, rate)
            facts = {"scene": number, "scenes": len(scenes), "scene_start": start}
            yield f"-{number}", start, frames, facts


def _frames_until(last, start, file_frames, fps, rate):
    """Frames to take so that none is behind the one shown at `last`."""
    if fps is None:
        return file_frames
    # Of an instant behind it by half a frame, the next scene's first is as near.
    return max(0, math.floor((last - start + 0.25 / rate) * fps)) + 1
