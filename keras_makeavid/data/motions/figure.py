"""The dancer: a jointed figure of head, torso and limbs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_makeavid.data.motions.paths import hop
from keras_makeavid.data.motions.scene import Scene

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


class Limb(NamedTuple):
    """A rounded bar; lengths are fractions of the frame's side.

    Attributes:
        start: x and y, `(F, 2)`.
        end: x and y, `(F, 2)`; a head ends where it starts.
        radius: half of its thickness.
    """

    start: np.ndarray
    end: np.ndarray
    radius: float


def figure_of(scene: Scene, times: np.ndarray) -> list[Limb]:
    """The dancer of a scene over time.

    Args:
        scene: of a dancer.
        times: `(F,)`, from 0, the start of the clip, to 1, its end.

    Returns:
        Its limbs, head and torso, in no order.

    Example:
        ```python
        dancer = Description("red", "dancer", "waving")
        scene = draw_scene_of(dancer, np.random.default_rng(0))
        len(figure_of(scene, np.linspace(0, 1, 16)))  # 10
        ```
    """
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


def _jumping(scene, times):
    height = hop(times, scene.cycles)
    zero, arm = np.zeros_like(times), 40 + 100 * height
    return _Pose(
        left_arm=(arm, arm),
        right_arm=(arm, arm),
        lean=zero,
        shift=zero,
        crouch=0.08 * (1 - height) ** 2,
        lift=scene.amount * height,
    )


def _waving(scene, times):
    zero = np.zeros_like(times)
    swing = scene.amount * np.sin(2 * np.pi * scene.cycles * times)
    return _Pose(
        left_arm=(zero + 40, zero + 30),
        right_arm=(110 + 0.4 * swing, 135 + swing),
        lean=zero,
        shift=zero,
        crouch=zero,
        lift=zero,
    )


def _swaying(scene, times):
    zero, swing = np.zeros_like(times), np.sin(2 * np.pi * scene.cycles * times)
    return _Pose(
        left_arm=(zero + 105, zero + 125),
        right_arm=(zero + 105, zero + 125),
        lean=scene.amount * swing,
        shift=0.06 * swing,
        crouch=zero,
        lift=zero,
    )


_POSES = {"jumping": _jumping, "waving": _waving, "swaying": _swaying}


def _direction(degrees):
    """Unit vectors `(F, 2)` in a plane whose second axis points up: 0 is down."""
    radians = np.radians(degrees)
    return np.stack([np.sin(radians), -np.cos(radians)], axis=-1)
