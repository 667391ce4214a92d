"""A video file as a stream of frames, each with the time it is shown at."""

from __future__ import annotations

import codecs
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.files import StrPath, existing_file
from keras_makeavid.video.opencv import load_cv2
from keras_makeavid.video.webp import WebPClip, is_animated_webp

# Above it a header gives the ticks of a clock, not frames: 1000 and 90000 are common.
FASTEST_RATE = 500.0
SLOWEST_RATE = 0.001
FRAMES_TO_MEASURE_RATE = 50
# Below this, decoding from the beginning costs less than a seek that may fail.
SHORTEST_SEEK_SECONDS = 2.0


@contextmanager
def open_clip(path: StrPath | Clip, max_bytes: int) -> Iterator[Clip]:
    """Opens a video file.

    Args:
        path: Any local file that OpenCV reads as video; animated WebP too. A clip that
            is open is given as it is, and stays open.
        max_bytes: Most memory that what the file declares may take: one frame, or a
            whole animated WebP.

    Yields:
        The clip.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, holds no picture, or cannot be decoded.
    """
    if isinstance(path, Clip):
        yield path
        return
    path = existing_file(path)
    with path.open("rb") as file:
        head = file.read(4096)
    if _is_text(head):
        # Also keeps out playlists, through which FFmpeg would open other files.
        raise ValueError(f"{path} is a text file, not a video.")
    if is_animated_webp(head):
        clip = WebPClip(path, max_bytes)
    else:
        clip = OpenCVClip(path, max_bytes, seekable=_timestamps_survive_seeks(head))
    try:
        yield clip
    except load_cv2().error as error:
        raise ValueError(f"{path} cannot be decoded: {error.err}") from error
    finally:
        clip.close()


class OpenCVClip:
    """The frames of a video file, decoded in order.

    Attributes:
        height: Rows of a frame, upright as the rotation in the file says.
        width: Columns of a frame.
        rate: Frames a second, by the header, or measured if that makes no sense.
        promised_seconds: Duration by the header, 0 if it gives none.
        end: Seconds at which the last frame decoded so far stops being shown.

    Args:
        path: The file.
        max_bytes: Most memory that one frame may take.
        seekable: Whether frames have the same times after a seek.

    Raises:
        ValueError: OpenCV cannot open it, or it declares larger frames.
    """

    def __init__(self, path: Path, max_bytes: int, *, seekable: bool):
        self._path = path
        self._begun = False
        self._capture = self._open()
        cv2 = load_cv2()
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if self.height < 1 or self.width < 1:
            raise ValueError(
                f"{path} cannot be read as a video: {_why_unreadable(path)}"
            )
        if self.height * self.width * 3 > max_bytes:
            raise ValueError(
                f"{path} declares frames of {self.width} x {self.height}, "
                f"more than max_bytes={max_bytes}."
            )
        header_rate = self._capture.get(cv2.CAP_PROP_FPS)
        sane = SLOWEST_RATE <= header_rate <= FASTEST_RATE
        self.rate = header_rate if sane else self._measured_rate(header_rate)
        promised = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.promised_seconds = max(0.0, promised / header_rate) if sane else 0.0
        # OpenCV places seeks by the header's rate and count.
        self._seekable = seekable and sane and promised > 1
        self.end = 0.0

    def __str__(self) -> str:
        return str(self._path)

    def frames(
        self, start: float = 0.0
    ) -> Iterator[tuple[float, Callable[[], np.ndarray]]]:
        """Gives each frame's time and a function that returns it.

        Args:
            start: Seconds. Frames that end before may be left out; those given are the
                same, at the same times, as when read from the beginning.

        Yields:
            `(time, retrieve)`: seconds since the first frame, strictly increasing;
            `retrieve()`, valid until the next step, is `(H, W, 3)`, uint8, BGR.

        Raises:
            ValueError: No frame can be decoded.
        """
        if self._begun:
            self._capture.release()
            self._capture = self._open()
        self._begun = True
        if not self._capture.grab():
            raise ValueError(
                f"Not one frame of {self._path} can be decoded: "
                f"{_why_unreadable(self._path)}"
            )
        origin = self._position()
        time = 0.0
        if self._seekable and start > SHORTEST_SEEK_SECONDS:
            time = self._seek(start, origin)
        while True:
            self.end = time + 1 / self.rate
            yield time, self._retrieve
            if not self._capture.grab():
                return
            # AVI and raw streams lack some or all of the timestamps.
            position = self._position() - origin
            time = position if position > time else time + 1 / self.rate

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()

    def _seek(self, start: float, origin: float) -> float:
        """Grabs a frame safely before `start`, or the first, and returns its time."""
        cv2 = load_cv2()
        lead = max(1.0, 2 / self.rate)
        while lead < start:
            self._capture.set(cv2.CAP_PROP_POS_MSEC, (start - lead) * 1000)
            if self._capture.grab():
                time = self._position() - origin
                # Variable frame rates make OpenCV land late; only timestamps tell.
                if 0 < time <= start - 1 / self.rate:
                    return time
            lead *= 4
        self._capture.release()
        self._capture = self._open()
        self._capture.grab()
        return 0.0

    def _open(self) -> Any:
        cv2 = load_cv2()
        # An absolute path cannot be taken for a protocol such as "concat:".
        capture = cv2.VideoCapture(os.path.abspath(self._path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise ValueError(
                f"{self._path} cannot be read as a video: {_why_unreadable(self._path)}"
            )
        return capture

    def _position(self) -> float:
        return self._capture.get(load_cv2().CAP_PROP_POS_MSEC) / 1000

    def _retrieve(self) -> np.ndarray:
        decoded, frame = self._capture.retrieve()
        if not decoded:
            raise ValueError(f"A frame of {self._path} cannot be decoded: damaged?")
        return frame

    def _measured_rate(self, header_rate: float) -> float:
        capture = self._open()
        positions = []
        while len(positions) < FRAMES_TO_MEASURE_RATE and capture.grab():
            positions.append(capture.get(load_cv2().CAP_PROP_POS_MSEC) / 1000)
        capture.release()
        span = positions[-1] - positions[0] if positions else 0.0
        rate = (len(positions) - 1) / span if span > 0 else math.inf
        if not SLOWEST_RATE <= rate <= FASTEST_RATE:
            raise ValueError(
                f"{self._path} has no usable frame rate: its header says {header_rate} "
                f"frames a second, and the times of its first {len(positions)} frames "
                "give none. A sound file with a cover picture looks like this."
            )
        return rate


Clip = OpenCVClip | WebPClip


def _is_text(head: bytes) -> bool:
    if b"\0" in head or head.startswith(b"YUV4MPEG2"):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _timestamps_survive_seeks(head: bytes) -> bool:
    # MP4 and QuickTime, Matroska and WebM time every frame. After a seek in MPEG
    # program streams or AVI OpenCV was seen to give frames other times than before.
    return head[4:8] == b"ftyp" or head[:4] == b"\x1a\x45\xdf\xa3"


def _why_unreadable(path: Path) -> str:
    import av

    try:
        with av.open(str(path.absolute()), metadata_errors="ignore") as container:
            if container.streams.video:
                codec = container.streams.video[0].codec_context
                name = "unknown" if codec is None else codec.name
                return f"its {name} stream is damaged or not supported by OpenCV."
            if container.streams.audio:
                return "it holds sound only."
    except (av.FFmpegError, OSError):
        pass
    return "it is not in a known format, or is truncated or damaged."
