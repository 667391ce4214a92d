"""Reading video files: windows of frames at a chosen size and rate, and scenes."""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_makeavid.files import StrPath
from keras_makeavid.validation import check_least, refusal
from keras_makeavid.video.clip import Clip, open_clip
from keras_makeavid.video.opencv import load_cv2
from keras_makeavid.video.pictures import Colour
from keras_makeavid.video.resize import check_size, cover_crop

MAX_BYTES = 4 * 2**30
FASTEST_FPS = 1000
# Matroska and FLV round times to milliseconds.
TIME_SLACK = 0.002
# Enough to see a cut by, and ten times faster than full HD.
DETECTION_WIDTH = 256


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds: frames that can be decoded, whatever its header says.

    `fps` is the average if the rate varies, `duration` goes to the end of the last
    frame, and width and height are as it is shown: cropped, of square pixels, upright.
    """

    path: Path
    num_frames: int
    fps: float
    width: int
    height: int
    duration: float


def probe(path: StrPath, *, max_bytes: int = MAX_BYTES) -> VideoInfo:
    """Count and time the frames of a video file.

    Every frame is decoded, as headers of truncated files give counts that are wrong.
    What the file declares may take `max_bytes` of memory.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, holds no picture, or no frame can be decoded.

    Example:
    ```python
    write_video("clip.mp4", np.zeros((8, 64, 96, 3), "uint8"), fps=8)
    probe("clip.mp4").num_frames  # 8
    ```
    """
    with open_clip(path, max_bytes) as clip:
        num_frames = sum(1 for _ in clip.frames())
        mean = num_frames / clip.end
        # The header's rate is the exact one, unless it is not about these frames.
        fps = clip.rate if math.isclose(mean, clip.rate, rel_tol=0.01) else mean
        return VideoInfo(
            path=Path(path),
            num_frames=num_frames,
            fps=fps,
            width=clip.width,
            height=clip.height,
            duration=clip.end,
        )


def read_video(
    path: StrPath | Clip,
    *,
    start: float = 0.0,
    num_frames: int | None = None,
    fps: float | None = None,
    height: int | None = None,
    width: int | None = None,
    max_bytes: int = MAX_BYTES,
    background: Colour = "white",
) -> np.ndarray:
    """Read a window of a video file, uint8 RGB `(F, H, W, 3)`.

    Frames are as the file says that they are to be shown: cropped, of square pixels and
    upright. In MP4, QuickTime, Matroska and WebM files the window is sought; in others,
    frames before it are decoded and left out. Either way they are the same.

    Args:
        path: A local video file in any format that FFmpeg reads, or an animated GIF,
            PNG or WebP; or a clip that is open.
        start: Where the window begins, in seconds after the first frame.
        num_frames: Frames to return. None reads to the end.
        fps: Frames a second to return, at most 1000: for each instant `start + k / fps`
            within the file the frame that begins nearest to it. None gives every frame,
            from the one at `start` (within half a frame).
        height: Rows to scale and crop to, see `cover_crop`. None keeps the file's.
        width: Columns; given with `height` or not at all.
        max_bytes: Most memory that the result may take, by default 4 GiB.
        background: What lies behind transparent parts of what is not open yet.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: An argument makes no sense; the file is empty, holds no picture or
            cannot be decoded, lacks frames asked for, or takes too much memory.

    Example:
    ```python
    write_video("clip.mp4", np.zeros((48, 64, 96, 3), "uint8"), fps=24)
    window = read_video("clip.mp4", start=1.0, num_frames=8, height=32, width=32)
    window.shape  # (8, 32, 32, 3)
    ```
    """
    check_window(start, num_frames, fps)
    check_size(height, width)
    with open_clip(path, max_bytes, background=background) as clip:
        if height is None or width is None:
            height, width = clip.height, clip.width
        promised = (clip.promised_seconds - start) * (fps or clip.rate)
        # Less a hair, as times are rounded.
        expected = num_frames or max(1, math.ceil(promised - 0.01))
        limit = max_bytes // (height * width * 3)
        if expected > limit:
            raise ValueError(
                f"{expected} frames of {width} x {height} from {path}"
                f"{'' if num_frames else ' (by its header)'} need "
                f"{expected * height * width * 3} bytes, more than "
                f"max_bytes={max_bytes}: ask for fewer or smaller frames."
            )
        chosen = _nearest_frames(clip, start, fps) if fps else _every_frame(clip, start)
        frames = np.empty((expected, height, width, 3), np.uint8)
        _fill(frames, chosen, num_frames, limit, path)
        if len(frames) < (num_frames or 1):
            at_rate = f" at {fps:g} frames a second" if fps else ""
            by_header = f"{clip.promised_seconds:.1f} s"
            raise ValueError(
                f"{path} lasts {clip.end:.3f} s (by its header {by_header}) and has "
                f"{len(frames)} frames from {start:g} s on{at_rate}, "
                f"{num_frames or 'some'} were asked for."
            )
    return frames


def check_window(start: float, num_frames: int | None, fps: float | None) -> None:
    """Refuse a window that no video has."""
    if not 0 <= start < math.inf:
        raise refusal("start must be 0 or more seconds", start)
    check_least(1, num_frames=num_frames)
    if fps is not None and not 0 < fps <= FASTEST_FPS:
        raise refusal(f"fps must be above 0 and at most {FASTEST_FPS}", fps)


def _every_frame(clip: Clip, start: float) -> Iterator[np.ndarray]:
    earliest = start - 0.5 / clip.rate - 1e-6
    for time, retrieve in clip.frames(start):
        if time >= earliest:
            yield retrieve()


def _nearest_frames(clip: Clip, start: float, fps: float) -> Iterator[np.ndarray]:
    instants = (start + number / fps for number in itertools.count())
    instant = next(instants)
    earlier, shown = 0.0, None
    for time, retrieve in clip.frames(start):
        while shown and instant <= (earlier + time) / 2:
            yield shown()
            instant = next(instants)
        # Converted if it is chosen, and then once.
        earlier, shown = time, functools.cache(retrieve)
    while shown and instant < clip.end - TIME_SLACK:
        yield shown()
        instant = next(instants)


def _fill(frames, chosen, num_frames, limit, path) -> None:
    """Write what is chosen into `frames`, whose first axis is made to fit in place."""
    height, width = frames.shape[1:3]
    count = 0
    for frame in chosen:
        if count == len(frames):
            if count == limit:
                raise ValueError(
                    f"{path} has more frames than the {limit} that max_bytes allows."
                )
            # In place, as a second copy would break the bound on memory.
            frames.resize((min(2 * count, limit), height, width, 3), refcheck=False)
        frames[count] = cover_crop(frame, height, width)
        count += 1
        if count == num_frames:
            break
    frames.resize((count, height, width, 3), refcheck=False)


def find_scenes(path: StrPath | Clip) -> list[np.ndarray]:
    """The times of the frames of each scene, in seconds after the file's first frame.

    Every frame is looked at: with fewer, fast motion looks like a cut.
    """
    detector_class, timecode_class = import_scenedetect()
    times, cuts = [], []
    with open_clip(path, MAX_BYTES) as clip:
        detector = detector_class()
        width = min(clip.width, DETECTION_WIDTH)
        height = max(1, round(clip.height * width / clip.width))
        for number, (time, retrieve) in enumerate(clip.frames()):
            times.append(time)
            frame = cover_crop(retrieve(), height, width)[..., ::-1]
            timecode = timecode_class(number, fps=clip.rate)
            cuts += detector.process_frame(timecode, np.ascontiguousarray(frame))
        cuts += detector.post_process(timecode)
    return np.split(np.asarray(times), sorted({cut.frame_num for cut in cuts} - {0}))


def import_scenedetect() -> tuple[type, type]:
    """Import PySceneDetect's content detector and time codes, or say how to get it."""
    # PySceneDetect fails without it, as if it were not installed.
    load_cv2()
    try:
        from scenedetect import ContentDetector, FrameTimecode
    except ImportError as error:
        problem = "Scene cuts are found by PySceneDetect"
        raise ImportError(f"{problem}: pip install 'keras-makeavid[scenes]'") from error
    return ContentDetector, FrameTimecode
