"""What a video shows, measured with classical vision only: colours and motions."""

import colorsys
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_makeavid.moving_shapes.segmentation import (
    CORNERS,
    Segmentation,
    background_of,
    centre_of,
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

# What the least motion of training's clips amounts to; lengths in frame sides.
_WAY = 0.25
_GROWTH = math.log(1.7)
_TURN = 130.0
_BOUNCE = 0.22
_JUMP = 0.15
_SWAY = 0.09
_GESTURE = 0.3
# How much of it a motion must have to be one.
_LEAST_SHARE = 0.4


@dataclass(frozen=True)
class Measured:
    """What a video shows of its object and background; `None` is what has no name.

    `last_shape` is that of the last quarter of the frames in which it is visible, by
    themselves. `flicker` is the mean change from frame to frame, in levels of 255, of
    pixels that are background in both or inside of the object in both: motion explains
    none.
    """

    colour: str | None
    shape: str | None
    motion: str | None
    background: str | None
    flicker: float
    last_shape: str | None = None


def measure_video(frames: np.ndarray) -> Measured:
    """Measure a video of one object before a plain background, uint8 `(F, H, W, 3)`."""
    frames = working_frames(frames)
    background = name_background(np.median(background_of(frames), axis=0))
    segmentation = segment(frames)
    if segmentation is None:
        nothing = np.zeros(frames.shape[:3], "float32")
        return Measured(None, None, None, background, _flicker(frames, nothing))
    reach = outline_reach(segmentation)
    harmonics = outline_harmonics(reach)
    shape = name_shape(harmonics)
    return Measured(
        colour=name_colour(segmentation.rgb),
        shape=shape,
        motion=name_motion(track(segmentation, reach, shape), shape),
        background=background,
        flicker=_flicker(frames, segmentation.coverage),
        last_shape=name_shape(harmonics[3 * len(harmonics) // 4 :]),
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


class Track(NamedTuple):
    """An object over the V frames in which it is visible, each `(V,)`."""

    x: np.ndarray  # Centre, in frame sides.
    y: np.ndarray
    size: np.ndarray  # Logarithm of its length.
    turn: np.ndarray  # Degrees clockwise; 0 of what has no corners.
    gesture: float  # The largest change of its reach in a direction, in mean reaches.


def track(segmentation: Segmentation, reach: np.ndarray, shape: str) -> Track:
    """Follow an object of a named shape, by its `outline_reach`, `(V, 72)`."""
    coverage = segmentation.coverage[segmentation.visible]
    x, y = np.array([centre_of(c) for c in coverage]).T / min(coverage.shape[1:])
    turn = np.zeros(len(coverage))
    if shape in CORNERS:
        phase = np.angle(outline_harmonics(reach)[:, CORNERS[shape]])
        turn = -np.degrees(np.unwrap(phase)) / CORNERS[shape]
    # Over three rays: an arm is wider than one, noise is not.
    smooth = (np.roll(reach, -1, axis=1) + reach + np.roll(reach, 1, axis=1)) / 3
    gesture = smooth.std(axis=0).max() / reach.mean()
    size = np.log(coverage.sum((1, 2))) / 2
    return Track(x, y, size, turn, float(gesture))


def name_motion(path: Track, shape: str) -> str | None:
    """Name a motion of a shape, one of `MOTIONS`; `None` of what hardly moves."""
    if len(path.x) < 3:
        return None
    # 1 is the least of a motion that training's clips have.
    across, down, growth = map(_trend, (path.x, path.y, path.size))
    scores = {
        "moving left": -across / _WAY,
        "moving right": across / _WAY,
        "moving up": -down / _WAY,
        "moving down": down / _WAY,
        "growing": growth / _GROWTH,
        "shrinking": -growth / _GROWTH,
    }
    if shape == "dancer":
        scores["jumping"] = _oscillation(path.y) / _JUMP
        scores["swaying"] = _oscillation(path.x) / _SWAY
    else:
        scores["bouncing"] = _oscillation(path.y) / _BOUNCE
        # Blurred corners seem to turn, too: no turn outdoes a whole other motion.
        scores["spinning"] = min(1.0, _steady_change(path.turn) / _TURN)
    best = max(scores, key=lambda name: scores[name])
    if scores[best] > _LEAST_SHARE:
        return best
    # A wave moves no more than an arm: it is what is left.
    waves = shape == "dancer" and path.gesture / _GESTURE > _LEAST_SHARE
    return "waving" if waves else None


def _trend(values):
    """By how much values grow in all, by the straight line that fits them."""
    places = np.linspace(-0.5, 0.5, len(values))
    return float(places @ values / (places @ places))


def _oscillation(values):
    """How far values go back and forth about their trend; 0 if only once."""
    places = np.linspace(-0.5, 0.5, len(values))
    values = values - values.mean() - _trend(values) * places
    extent = float(np.ptp(values))
    return extent if _turning_points(values, extent / 3) > 1 else 0.0


def _turning_points(values, least):
    """How often values turn back by at least so much."""
    turns, direction, extreme = 0, 0, values[0]
    for value in values[1:]:
        if direction == 0 and abs(value - extreme) >= least:
            direction, extreme = np.sign(value - extreme), value
        elif direction * (value - extreme) > 0:
            extreme = value
        elif direction * (extreme - value) >= least and direction != 0:
            turns, direction, extreme = turns + 1, -direction, value
    return turns


def _steady_change(values):
    """The size of the whole change, less if it goes back and forth."""
    steps = np.diff(values)
    total, whole = abs(steps.sum()), np.abs(steps).sum()
    return float(total * total / whole) if whole > 0 else 0.0
