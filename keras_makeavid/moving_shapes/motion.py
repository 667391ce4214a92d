"""Names of motions, by what a tracked object does over time."""

import math
from typing import NamedTuple

import numpy as np

from keras_makeavid.moving_shapes.segmentation import (
    CORNERS,
    Segmentation,
    centre_of,
    outline_harmonics,
)

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
