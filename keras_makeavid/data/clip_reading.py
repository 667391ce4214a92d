"""From a video file to the frames to encode: in worker processes, without Keras."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.validation import check_least
from keras_makeavid.video.clip import Clip, open_clip
from keras_makeavid.video.reader import MAX_BYTES, find_scenes, read_video


@dataclass(frozen=True)
class ClipSettings:
    """How every clip is read: arguments of `encode_clips`."""

    height: int
    width: int
    fps: float | None
    num_frames: int | None
    start: float
    split_scenes: bool
    background: str = "#ffffff"


@dataclass(frozen=True)
class ClipFilter:
    """The least that a clip must have; negative numbers are a `ValueError`.

    Args:
        min_frames: Frames, as encoded.
        min_size: Pixels of the shorter side, in the file.
        min_fps: Frames a second, in the file.

    Example:
    ```python
    ClipFilter(min_frames=24).reason_by_length(20)  # "20 frames, fewer than 24"
    ```
    """

    min_frames: int = 0
    min_size: int = 0
    min_fps: float = 0.0

    def __post_init__(self):
        check_least(0, **vars(self))

    def reason_by_header(self, height: int, width: int, fps: float) -> str | None:
        """Tell why to drop a clip by the header of its file, or `None` to keep it."""
        if min(height, width) < self.min_size:
            return f"{width} x {height} pixels, smaller than {self.min_size}"
        if fps < self.min_fps:
            return f"{fps:g} frames a second, fewer than {self.min_fps:g}"
        return None

    def reason_by_length(self, frames: int) -> str | None:
        """Tell why to drop a clip by its length, or `None` to keep it."""
        if frames < self.min_frames:
            return f"{frames} frames, fewer than {self.min_frames}"
        return None


@dataclass(frozen=True)
class ClipPart:
    """A run of frames that becomes one clip of the dataset."""

    # What the id of the file is followed by.
    suffix: str
    # `(F, H, W, 3)`, uint8; or latents and text states, if a worker of Ray encoded it.
    frames: np.ndarray | tuple[np.ndarray, np.ndarray]
    # For its metadata.
    facts: dict[str, Any]


@dataclass(frozen=True)
class ClipContent:
    """What reading a clip gave."""

    # Whether the file has the SHA-256 that was expected, and was not decoded.
    unchanged: bool = False
    parts: list[ClipPart] = field(default_factory=list)
    # Suffix of each part that was filtered out, and why.
    dropped: dict[str, str] = field(default_factory=dict)
    # Why the clip cannot be read, if it cannot.
    failed: str | None = None


def read_clip(
    path: Path,
    settings: ClipSettings,
    clip_filter: ClipFilter,
    expected_sha256: str | None,
) -> ClipContent:
    """Read what there is to encode of a clip; a broken one raises no exception."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return ClipContent(failed=str(error))
    if sha256 == expected_sha256:
        return ClipContent(unchanged=True)
    try:
        with open_clip(path, MAX_BYTES, background=settings.background) as clip:
            return _read_parts(clip, settings, clip_filter, sha256)
    except (ValueError, OSError) as error:
        return ClipContent(failed=str(error))


def _read_parts(
    clip: Clip, settings: ClipSettings, clip_filter: ClipFilter, sha256: str
) -> ClipContent:
    reason = clip_filter.reason_by_header(clip.height, clip.width, clip.rate)
    if reason:
        return ClipContent(dropped={"": reason})
    fps = settings.fps or clip.rate
    least = max(clip_filter.min_frames, settings.num_frames or 0)
    lengths = replace(clip_filter, min_frames=least)
    content = ClipContent()
    for suffix, start, available, scene in _windows(clip, settings):
        reason = None if available is None else lengths.reason_by_length(available)
        if reason is None:
            frames = read_video(
                clip,
                start=start,
                num_frames=settings.num_frames or available,
                fps=settings.fps,
                height=settings.height,
                width=settings.width,
            )
            reason = lengths.reason_by_length(len(frames))
        if reason is not None:
            content.dropped[suffix] = reason
            continue
        facts = {
            "frames": len(frames),
            "fps": fps,
            "duration": len(frames) / fps,
            "source_sha256": sha256,
            "source_height": clip.height,
            "source_width": clip.width,
            "source_fps": clip.rate,
            **scene,
        }
        content.parts.append(ClipPart(suffix, frames, facts))
    return content


def _windows(
    clip: Clip, settings: ClipSettings
) -> Iterator[tuple[str, float, int | None, dict[str, Any]]]:
    """Suffix, start, number of frames if known, and facts of each clip of a file."""
    scenes = find_scenes(clip) if settings.split_scenes else []
    if len(scenes) < 2:
        yield "", settings.start, None, {}
        return
    rate = clip.rate
    for number, times in enumerate(scenes, start=1):
        # Half a frame early still means the frame, as for `read_video`.
        times = times[times >= settings.start - 0.5 / rate]
        if len(times):
            start = float(max(times[0], settings.start))
            frames = len(times)
            if settings.fps is not None:
                # None is behind the last: of an instant behind it by half a frame,
                # the next scene's first is as near.
                last = times[-1] - start + 0.25 / rate
                frames = max(0, math.floor(last * settings.fps)) + 1
            facts = {"scene": number, "scenes": len(scenes), "scene_start": start}
            yield f"-{number}", start, frames, facts
