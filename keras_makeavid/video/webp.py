"""Animated WebP, which OpenCV reads and writes apart from other video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from keras_makeavid.video.opencv import load_cv2

QUALITY = 90


def is_animated_webp(head: bytes) -> bool:
    """Tells an animated WebP by the first 32 bytes of the file.

    Args:
        head: The beginning of the file.

    Returns:
        Whether the container is an extended WebP with its animation flag set.
    """
    return (
        len(head) >= 30
        and head[:4] == b"RIFF"
        and head[8:16] == b"WEBPVP8X"
        and bool(head[20] & 0b10)
    )


class WebPClip:
    """The frames of an animated WebP. Has the face of `OpenCVClip`.

    Args:
        path: The file.
        max_bytes: Most memory that all its decoded frames may take.

    Raises:
        ValueError: It declares more than that, or cannot be decoded.
    """

    def __init__(self, path: Path, max_bytes: int):
        self._path = path
        contents = path.read_bytes()
        self.width = int.from_bytes(contents[24:27], "little") + 1
        self.height = int.from_bytes(contents[27:30], "little") + 1
        declared = max(1, _count_chunks(contents, b"ANMF"))
        if declared * self.height * self.width * 4 > max_bytes:
            raise ValueError(
                f"{path} declares {declared} frames of {self.width} x {self.height}, "
                f"decoded more than max_bytes={max_bytes}."
            )
        cv2 = load_cv2()
        try:
            _, animation = cv2.imdecodeanimation(
                np.frombuffer(contents, np.uint8), 0, declared
            )
        except cv2.error as error:
            raise ValueError(f"{path} is damaged: {error.err}") from error
        self._frames = [frame[..., :3] for frame in animation.frames]
        if not self._frames:
            raise ValueError(f"{path} is truncated or damaged: no frame can be read.")
        # A browser shows a frame of no duration for a tenth of a second.
        seconds = [max(0, ms) / 1000 or 0.1 for ms in animation.durations]
        self._times = np.concatenate([[0.0], np.cumsum(seconds)])
        self.end = float(self._times[-1])
        self.rate = len(self._frames) / self.end
        self.promised_seconds = self.end

    def __str__(self) -> str:
        return str(self._path)

    def frames(
        self, start: float = 0.0
    ) -> Iterator[tuple[float, Callable[[], np.ndarray]]]:
        """Gives each frame's time in seconds and a function that returns it.

        Args:
            start: Unused: all frames are in memory.

        Yields:
            `(time, retrieve)`; `retrieve()` is `(H, W, 3)`, uint8, BGR.
        """
        for index, frame in enumerate(self._frames):
            yield float(self._times[index]), lambda frame=frame: frame

    def close(self) -> None:
        """Lets go of the frames."""
        self._frames = []


def write_webp(path: Path, frames: np.ndarray, fps: float) -> None:
    """Writes an animated WebP that repeats for ever.

    Neighbouring frames that are equal are stored as one of longer duration, a video
    of equal frames as a still picture.

    Args:
        path: The file to write.
        frames: `(F, H, W, 3)`, uint8, RGB.
        fps: Frames a second; durations are rounded to whole milliseconds so that the
            rate is kept on average.
    """
    cv2 = load_cv2()
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) for frame in frames]
    starts = np.round(np.arange(len(frames) + 1) * 1000 / fps).astype(int)
    animation.durations = np.diff(starts).tolist()
    animation.loop_count = 0
    _, encoded = cv2.imencodeanimation(
        ".webp", animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY]
    )
    path.write_bytes(encoded.tobytes())


def _count_chunks(contents: bytes, kind: bytes) -> int:
    count, offset = 0, 12
    while offset + 8 <= len(contents):
        count += contents[offset : offset + 4] == kind
        size = int.from_bytes(contents[offset + 4 : offset + 8], "little")
        offset += 8 + size + size % 2
    return count
