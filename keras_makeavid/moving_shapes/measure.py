"""What a video shows, measured with classical vision only."""

import colorsys
from dataclasses import dataclass

import numpy as np

from keras_makeavid.moving_shapes.motion import name_motion, track
from keras_makeavid.moving_shapes.segmentation import (
    background_of,
    name_shape,
    outline_harmonics,
    outline_reach,
    segment,
    working_frames,
)
from keras_makeavid.video.opencv import load_cv2

_BACKGROUND_COVERAGE = 0.1
_OBJECT_COVERAGE = 0.5
_LEAST_ERROR = 1e-10

_HUES = {"red": 0, "yellow": 55, "green": 120, "blue": 224, "purple": 286}
_HUE_TOLERANCE = 32
_LEAST_SATURATION = 0.25
_LEAST_VALUE = 0.3
_WHITE_VALUE = 0.64
_BLACK_VALUE = 0.2
_GREY_VALUE = 0.72
_BROWN_HUES = (8, 45)


@dataclass(frozen=True)
class Measured:
    """What a video shows of its object and background; `None` is what has no name.

    `flicker` is the mean change from frame to frame, in levels of 255, of pixels that
    are background in both or inside of the object in both: motion explains none.
    """

    colour: str | None
    shape: str | None
    motion: str | None
    background: str | None
    flicker: float


def measure_video(frames: np.ndarray) -> Measured:
    """Measure a video of one object before a plain background, uint8 `(F, H, W, 3)`."""
    frames = working_frames(frames)
    background = name_background(np.median(background_of(frames), axis=0))
    segmentation = segment(frames)
    if segmentation is None:
        nothing = np.zeros(frames.shape[:3], "float32")
        return Measured(None, None, None, background, _flicker(frames, nothing))
    reach = outline_reach(segmentation)
    shape = name_shape(outline_harmonics(reach))
    return Measured(
        colour=name_colour(segmentation.rgb),
        shape=shape,
        motion=name_motion(track(segmentation, reach, shape), shape),
        background=background,
        flicker=_flicker(frames, segmentation.coverage),
    )


def psnr(image: np.ndarray, other: np.ndarray) -> float:
    """Measure the peak signal-to-noise ratio of two pictures in dB; 100 if equal."""
    if image.shape != other.shape:
        expected = "Pictures must be of one size"
        raise ValueError(f"{expected}. Received: {image.shape} and {other.shape}")
    error = np.mean((image.astype("float64") - other.astype("float64")) ** 2)
    return float(-10 * np.log10(max(error / 255**2, _LEAST_ERROR)))


def name_colour(rgb: np.ndarray) -> str | None:
    """Name an object's colour, of levels of 255: one of `COLOURS`, or `None`."""
    hue, saturation, value = _hsv(rgb)
    if saturation < _LEAST_SATURATION:
        return "white" if value > _WHITE_VALUE else None
    if value < _LEAST_VALUE:
        return None
    distances = {
        name: abs((hue - of_name + 180) % 360 - 180) for name, of_name in _HUES.items()
    }
    nearest = min(distances, key=lambda name: distances[name])
    return nearest if distances[nearest] <= _HUE_TOLERANCE else None


def name_background(rgb: np.ndarray) -> str | None:
    """Name a background's colour, of levels of 255: of `BACKGROUNDS`, or `None`."""
    hue, saturation, value = _hsv(rgb)
    if value < _BLACK_VALUE:
        return "black"
    if saturation < _LEAST_SATURATION:
        return "grey" if value < _GREY_VALUE else None
    return "brown" if _BROWN_HUES[0] <= hue <= _BROWN_HUES[1] else None


def _hsv(rgb):
    hue, saturation, value = colorsys.rgb_to_hsv(*(float(c) / 255 for c in rgb))
    return 360 * hue, saturation, value


def _flicker(frames, coverage):
    if len(frames) == 1:
        return 0.0
    cv2 = load_cv2()
    # Two pixels away from the edge, which may be soft.
    around = np.ones((5, 5), "uint8")
    outside = np.stack([cv2.dilate(c, around) for c in coverage]) < _BACKGROUND_COVERAGE
    inside = np.stack([cv2.erode(c, around) for c in coverage]) > _OBJECT_COVERAGE
    explained = (outside[1:] & outside[:-1]) | (inside[1:] & inside[:-1])
    changes = np.abs(np.diff(frames, axis=0))[explained]
    return float(changes.mean()) if len(changes) else 0.0
