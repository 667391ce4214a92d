"""Where a shape or a dancer is at each moment of its clip."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_makeavid.moving_shapes.scene import Scene

# How x and y change.
_DIRECTIONS = {
    "moving left": (-1, 0),
    "moving right": (1, 0),
    "moving up": (0, -1),
    "moving down": (0, 1),
}
# Lengths in heights of the figure, from the ground up.
_HIP = 0.46
_TORSO = 0.28
_HEAD = 0.43
_HEAD_RADIUS = 0.11
_SHOULDER = 0.25
_UPPER_ARM = 0.19
_FOREARM = 0.19
_STANCE = 0.16
_LIMB_RADIUS = 0.045
_TORSO_RADIUS = 0.065


class Path(NamedTuple):
    """A shape over time, each `(F,)`; lengths are fractions of the frame's side."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    turn: np.ndarray  # Degrees clockwise.


class Limb(NamedTuple):
    """A rounded bar between two points `(F, 2)`; a head ends where it starts.

    Lengths are fractions of the frame's side; `radius` is half of the thickness.
    """

    start: np.ndarray
    end: np.ndarray
    radius: float


def path_of(scene: Scene, times: np.ndarray) -> Path:
    """Follow any shape but a dancer, at `times` `(F,)` from 0 to 1, the clip's end.

    A motion lasts the whole clip: with more frames it is slower, and stays within the
    frame.
    """
    way = scene.amount * times
    right, down = _DIRECTIONS.get(scene.motion, (0, 0))
    x, y = scene.x + right * way, scene.y + down * way
    radius, turn = np.full_like(times, scene.radius), np.zeros_like(times)
    if scene.motion == "growing":
        radius *= 1 + (scene.amount - 1) * times
    elif scene.motion == "shrinking":
        radius *= 1 - (1 - 1 / scene.amount) * times
    elif scene.motion == "spinning":
        turn += way
    elif scene.motion == "bouncing":
        y -= scene.amount * _hop(times, scene.cycles)
    return Path(x, y, radius, turn)


def figure_of(scene: Scene, times: np.ndarray) -> list[Limb]:
    """Follow a dancer: its ten limbs, head and torso among them, at `times` `(F,)`."""
    pose = _POSES[scene.motion](scene, times)
    height = 2 * scene.radius
    ground = np.stack(
        [np.full_like(times, scene.x), scene.y + scene.radius - pose.lift], axis=-1
    )

    def placed(point):
        return ground + height * point * (1, -1)

    hip = np.stack([pose.shift, _HIP - pose.crouch], axis=-1)
    spine = _direction(180 - pose.lean)
    shoulder, head = hip + _SHOULDER * spine, placed(hip + _HEAD * spine)
    limbs = [
        Limb(placed(hip), placed(hip + _TORSO * spine), _TORSO_RADIUS),
        Limb(head, head, _HEAD_RADIUS),
    ]
    for side, (upper, fore) in ((-1, pose.left_arm), (1, pose.right_arm)):
        elbow = shoulder + _UPPER_ARM * _direction(side * upper - pose.lean)
        hand = elbow + _FOREARM * _direction(side * fore - pose.lean)
        foot = np.stack(
            [np.full_like(times, side * _STANCE), np.zeros_like(times)], axis=-1
        )
        knee = (hip + foot) / 2
        knee[:, 0] += side * pose.crouch
        joints = [(shoulder, elbow), (elbow, hand), (hip, knee), (knee, foot)]
        limbs += [Limb(placed(a), placed(b), _LIMB_RADIUS) for a, b in joints]
    return [limb._replace(radius=height * limb.radius) for limb in limbs]


class _Pose(NamedTuple):
    """How the figure stands at each moment; all `(F,)`, angles in degrees.

    Arms have two angles, of upper arm and forearm: 0 hangs down, 90 points outwards.
    """

    left_arm: tuple[np.ndarray, np.ndarray]
    right_arm: tuple[np.ndarray, np.ndarray]
    lean: np.ndarray
    shift: np.ndarray
    crouch: np.ndarray
    lift: np.ndarray


def _jumping(scene, times):
    height = _hop(times, scene.cycles)
    zero, arm = np.zeros_like(times), 40 + 100 * height
    crouch = 0.08 * (1 - height) ** 2
    return _Pose((arm, arm), (arm, arm), zero, zero, crouch, scene.amount * height)


def _waving(scene, times):
    zero = np.zeros_like(times)
    swing = scene.amount * np.sin(2 * np.pi * scene.cycles * times)
    left, right = (zero + 40, zero + 30), (110 + 0.4 * swing, 135 + swing)
    return _Pose(left, right, zero, zero, zero, zero)


def _swaying(scene, times):
    zero, swing = np.zeros_like(times), np.sin(2 * np.pi * scene.cycles * times)
    arm = zero + 105, zero + 125
    return _Pose(arm, arm, scene.amount * swing, 0.06 * swing, zero, zero)


_POSES = {"jumping": _jumping, "waving": _waving, "swaying": _swaying}


def _direction(degrees):
    """Unit vectors `(F, 2)` in a plane whose second axis points up: 0 is down."""
    radians = np.radians(degrees)
    return np.stack([np.sin(radians), -np.cos(radians)], axis=-1)


def _hop(times, cycles):
    """Height `(F,)` from 0, the ground, to 1 of what falls under gravity."""
    phase = times * cycles % 1.0
    return 4 * phase * (1 - phase)
