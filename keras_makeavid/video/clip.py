"""A video file as a stream of frames, each with the time it is shown at."""

from __future__ import annotations

import functools
import io
import math
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.files import StrPath, existing_file, is_text, substitute_in
from keras_makeavid.video import pictures

# Above it a header gives the ticks of a clock, not frames: 1000 and 90000 are common.
FASTEST_RATE = 500.0
SLOWEST_RATE = 0.001
FRAMES_TO_MEASURE_RATE = 50
# Below this, decoding from the beginning costs less than a seek that may fail.
SHORTEST_SEEK_SECONDS = 2.0
# FFmpeg's own decoders of these pass over the transparency that WebM stores.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# After a seek in others, such as AVI, frames were seen to have other times than before.
SEEKABLE = ("mov,mp4", "matroska")

# PixelCropBottom, PixelCropTop, PixelCropLeft and PixelCropRight of Matroska.
_CROP = re.compile(rb"\x54([\xaa\xbb\xcc\xdd])([\x81-\x84])(?=(.{4}))", re.DOTALL)

Frames = Iterator[tuple[float, Callable[[], np.ndarray]]]


@contextmanager
def open_clip(
    path: StrPath | Clip, max_bytes: int, *, background: pictures.Colour = "white"
) -> Iterator[Clip]:
    """Open any local file that FFmpeg reads as video, or an animated WebP.

    A frame, or a whole WebP, may take `max_bytes` of memory. An open clip stays open.
    """
    if isinstance(path, Clip):
        yield path
        return
    rgb = pictures.as_rgb(background)
    path = existing_file(path)
    with path.open("rb") as file:
        head = file.read(4096)
    if is_text(head) and not head.startswith(b"YUV4MPEG2"):
        # Also keeps out playlists, through which FFmpeg would open other files.
        what = substitute_in(head) or "is a text file, not a video"
        raise ValueError(f"{path} {what}.")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        yield WebPClip(path, max_bytes, rgb)
        return
    with closing(VideoClip(path, max_bytes, rgb)) as clip:
        yield clip


class VideoClip:
    """The frames of a video file, decoded in order, as they are to be shown.

    That is cropped, of square pixels and upright: so are `height` and `width`. `rate`
    is the header's, or measured; `promised_seconds` are 0 if it promises none. `end` is
    when the last frame decoded so far stops being shown, in seconds.
    """

    def __init__(self, path: Path, max_bytes: int, background: np.ndarray):
        self._path = path
        self._max_pixels = max_bytes // 3
        self._background = background
        self._begun: tuple[Iterator[Any], Any] | None = None
        self._open()
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def frames(self, start: float = 0.0) -> Frames:
        """Give each frame's time in seconds since the first, and what returns it.

        Frames that end before `start` may be left out, and no others change.
        """
        if self._begun is None:
            self._reopen()
            self._begun = self._begin()
        (decoded, frame), self._begun = self._begun, None
        origin, time = self._time(frame) or 0.0, 0.0
        if self._seekable and start > SHORTEST_SEEK_SECONDS:
            decoded, frame, time = self._sought(start, origin)
        while frame is not None:
            self.end = time + self._duration(frame)
            yield time, functools.partial(self._shown, frame)
            frame = next(decoded, None)
            # AVI and raw streams lack some or all of the timestamps.
            position = self._time(frame)
            if position is not None and position - origin > time:
                time = position - origin
            else:
                time += 1 / self.rate

    def close(self) -> None:
        self._container.close()

    def __str__(self) -> str:
        return str(self._path)

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _open(self) -> None:
        import av

        try:
            # An absolute path cannot be taken for a protocol such as "concat:".
            self._container = av.open(
                os.path.abspath(self._path),
                metadata_errors="ignore",
                options={"protocol_whitelist": "file"},
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"{self._path} cannot be read as a video: it is not in a known format, "
                f"or is truncated or damaged ({reason})."
            ) from error
        attached = av.stream.Disposition.attached_pic
        streams = self._container.streams
        films = [s for s in streams.video if not s.disposition & attached]
        if not films or films[0].codec_context is None:
            why = "its video stream is damaged or not supported"
            if not films:
                why = "it holds no video, but sound or a cover picture"
            self._container.close()
            raise ValueError(f"{self._path} cannot be read as a video: {why}.")
        self._stream = films[0]
        self._decoder: Any = self._stream.codec_context
        name = ALPHA_DECODERS.get(self._decoder.name)
        if name in av.codecs_available and self._stream.metadata.get("alpha_mode"):
            header = self._decoder.extradata
            self._decoder = av.CodecContext.create(name, "r")
            self._decoder.extradata = header
        self._decoder.thread_type = "AUTO"
        # Else FFmpeg crops the left side to where memory is aligned.
        self._decoder.flags |= av.codec.context.Flags.unaligned
        self._decoder.options = {"max_pixels": str(self._max_pixels)}

    def _read_header(self) -> None:
        stream, path = self._stream, self._path
        width, height = stream.codec_context.width, stream.codec_context.height
        if height < 1 or width < 1:
            raise ValueError(
                f"{path} cannot be read as a video: its {self._decoder.name} stream "
                "declares no size, it is truncated or damaged."
            )
        self._crop = crop_of(stream)
        ratio = stream.sample_aspect_ratio
        self._pixel_aspect = float(ratio) if ratio and ratio > 0 else 1.0
        largest = max(1.0, self._pixel_aspect) * height * width
        if largest > self._max_pixels:
            raise ValueError(
                f"{path} declares frames of {width} x {height}, more than "
                f"max_bytes={self._max_pixels * 3}."
            )
        rates = [stream.average_rate, stream.guessed_rate]
        if self._container.duration is None:
            # The average of raw streams is a default.
            rates.reverse()
        header_rate = float(rates[0] or rates[1] or 0)
        sane = self._timed = SLOWEST_RATE <= header_rate <= FASTEST_RATE
        self.rate = header_rate if sane else self._measured_rate(header_rate)
        if stream.frames and sane:
            self.promised_seconds = stream.frames / self.rate
        elif stream.duration and stream.time_base:
            self.promised_seconds = float(stream.duration * stream.time_base)
        else:
            self.promised_seconds = (self._container.duration or 0) / 1e6
        self._seekable = self._container.format.name.startswith(SEEKABLE) and sane
        self.end = 0.0
        self._begun = decoded, first = self._begin()
        if first is None:
            raise ValueError(
                f"Not one frame of {path} can be decoded: its {self._decoder.name} "
                "stream is truncated, damaged or not supported."
            )
        # H.264 may say it at keyframes alone.
        self._matrix = bytes(first.side_data.get("DISPLAYMATRIX", b""))
        self.height, self.width = self._shown(first).shape[:2]

    def _measured_rate(self, header_rate: float) -> float:
        import av

        times = []
        with suppress(av.FFmpegError):
            for packet in self._container.demux(self._stream):
                if packet.pts is not None:
                    times.append(float(packet.pts * packet.time_base))
                if len(times) == FRAMES_TO_MEASURE_RATE:
                    break
        self._reopen()
        span = max(times) - min(times) if times else 0.0
        rate = (len(times) - 1) / span if span > 0 else math.inf
        if not SLOWEST_RATE <= rate <= FASTEST_RATE:
            raise ValueError(
                f"{self._path} has no usable frame rate: its header says {header_rate} "
                f"frames a second, and the times of its first {len(times)} frames give "
                "none."
            )
        return rate

    def _begin(self) -> tuple[Iterator[Any], Any]:
        """Decoded frames from where the file stands, and the first of them or None."""
        decoded = self._decoded()
        return decoded, next(decoded, None)

    def _decoded(self) -> Iterator[Any]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            packet = None
            with suppress(av.FFmpegError):
                packet = next(packets, None)
            if packet and self._decoder.name == "gif":
                packet = self._with_clear_background(packet)
            # Of a damaged packet: the next one may be whole.
            with suppress(av.FFmpegError):
                yield from self._decoder.decode(packet)
            if packet is None:
                return

    def _with_clear_background(self, packet: Any) -> Any:
        """The first packet of a GIF with a background colour that is transparent.

        It is what no frame covers, as in browsers. FFmpeg shows it opaque, unless it is
        the clear one or behind the end of the palette. A full palette of opaque colours
        has no such one.
        """
        import av

        contents = bytearray(packet)
        if not contents.startswith(b"GIF8") or len(contents) < 13:
            return packet
        control = contents.find(b"!\xf9\x04")
        is_clear = control > 0 and contents[control + 3] & 1
        contents[11] = contents[control + 6] if is_clear else 255
        renewed = av.Packet(bytes(contents))
        for name in ("pts", "dts", "duration", "time_base", "is_keyframe"):
            setattr(renewed, name, getattr(packet, name))
        return renewed

    def _sought(self, start: float, origin: float) -> tuple[Iterator[Any], Any, float]:
        """Frames from safely before `start`, or from the first, and that time."""
        import av

        lead = max(1.0, 2 / self.rate)
        while lead < start and self._stream.time_base:
            target = int((origin + start - lead) / self._stream.time_base)
            try:
                self._container.seek(target, stream=self._stream)
            except av.FFmpegError:
                break
            self._decoder.flush_buffers()
            decoded, frame = self._begin()
            # Only timestamps tell whether it landed late.
            position = self._time(frame)
            if position is not None and 0 < position - origin <= start - 1 / self.rate:
                return decoded, frame, position - origin
            lead *= 4
        self._reopen()
        return *self._begin(), 0.0

    def _time(self, frame: Any) -> float | None:
        """Seconds at which a frame is shown, by the clock of the file."""
        if frame is None:
            return None
        # AVI stores its frames in the order of decoding, and no other time.
        avi = self._container.format.name == "avi"
        ticks = frame.dts if avi else frame.pts
        return None if ticks is None else float(ticks * frame.time_base)

    def _duration(self, frame: Any) -> float:
        if self._timed and frame.duration and frame.pts is not None:
            return float(frame.duration * frame.time_base)
        return 1 / self.rate

    def _shown(self, frame: Any) -> np.ndarray:
        """A frame as it is to be shown: `(H, W, 3)`, uint8, RGB."""
        import av

        kind = frame.format
        see_through = kind.has_palette or any(c.is_alpha for c in kind.components)
        width = max(1, round(frame.width * self._pixel_aspect))
        try:
            layout = "rgba" if see_through else "rgb24"
            shaped = frame.reformat(width, format=layout, interpolation="BICUBIC")
            image = shaped.to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            problem = f"A frame of {self._path} cannot be decoded"
            raise ValueError(f"{problem}: damaged?") from error
        (top, bottom, left, right), stretch = self._crop, width / frame.width
        columns = slice(round(left * stretch), width - round(right * stretch))
        image = image[top : frame.height - bottom, columns]
        if see_through:
            image = pictures.lay_over(image, self._background)
        return np.ascontiguousarray(upright(image, self._matrix))


class WebPClip:
    """The frames of a WebP, all in memory. Has the face of `VideoClip`."""

    def __init__(self, path: Path, max_bytes: int, background: np.ndarray):
        self._path = path
        self._frames, self._times = [], [0.0]
        with pictures.opened_picture(path, max_bytes // 4) as picture:
            width, height = picture.size
            count = getattr(picture, "n_frames", 1)
            if count * height * width * 4 > max_bytes:
                raise pictures.TooLargeError(
                    f"{path} declares {count} frames of {width} x {height}, decoded "
                    f"more than max_bytes={max_bytes}."
                )
            for index in range(count):
                picture.seek(index)
                self._frames.append(pictures.pixels_of(picture, background))
                # A browser shows a frame of no duration for a tenth of a second.
                duration = picture.info["duration"] / 1000 or 0.1
                self._times.append(self._times[-1] + duration)
        self.height, self.width = self._frames[0].shape[:2]
        self.end = self.promised_seconds = self._times[-1]
        self.rate = count / self.end

    def frames(self, start: float = 0.0) -> Frames:
        """Give each frame's time and a function that returns it, as `VideoClip`."""
        for index, time in enumerate(self._times[:-1]):
            yield time, functools.partial(self._frames.__getitem__, index)

    def __str__(self) -> str:
        return str(self._path)


Clip = VideoClip | WebPClip


def crop_of(stream: Any) -> tuple[int, int, int, int]:
    """Rows at the top and bottom, columns left and right of a stream not to be shown.

    PyAV does not hand them on: FFmpeg writes a header of Matroska that has them.
    """
    import av

    header = io.BytesIO()
    try:
        with av.open(header, "w", format="matroska") as copy:
            copy.add_stream_from_template(stream)
            copy.start_encoding()
    except (av.FFmpegError, ValueError):
        return 0, 0, 0, 0
    # Without what the codec says, which may look like anything.
    contents = header.getvalue().replace(stream.codec_context.extradata or b"", b"")
    found = dict.fromkeys((b"\xbb", b"\xaa", b"\xcc", b"\xdd"), 0)
    for side, size, value in _CROP.findall(contents):
        found[side] = int.from_bytes(value[: size[0] - 0x80], "big")
    top, bottom, left, right = found.values()
    height, width = stream.codec_context.height, stream.codec_context.width
    if top + bottom >= height or left + right >= width:
        return 0, 0, 0, 0
    return top, bottom, left, right


def upright(image: np.ndarray, matrix: bytes) -> np.ndarray:
    """Turn and mirror a frame as its display matrix says, by quarter turns.

    Of its numbers `a, b, u, c, d, ...`, a point is shown at `(a p + c q, b p + d q)`.
    """
    if len(matrix) < 36:
        return image
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    if abs(a) + abs(d) < abs(b) + abs(c):
        image = image.swapaxes(0, 1)
        a, d = c, b
    if a < 0:
        image = image[:, ::-1]
    return image[::-1] if d < 0 else image
