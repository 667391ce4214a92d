"""Scenes to frames: where everything is at each moment, and its pixels."""

import math
from typing import NamedTuple

import numpy as np

from keras_makeavid.moving_shapes.world import REACH, SQUARE_HALF_SIDE, Scene
from keras_makeavid.validation import check_least, refusal

# Sines and cosines differ in the last bit between processors. Rounded to this part of
# a pixel they do not, and from there on all is exact by IEEE 754.
_GRID = 4096
# Where the outline of a star turns inwards, as a share of its reach.
_STAR_WAIST = 0.45
# How x and y change.
_DIRECTIONS = {
    **{"moving left": (-1, 0), "moving right": (1, 0)},
    **{"moving up": (0, -1), "moving down": (0, 1)},
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


def render(scene: Scene, num_frames: int = 16, size: int = 64) -> np.ndarray:
    """Render a whole clip of `scene`: the more frames, the slower the motion."""
    check_least(1, num_frames=num_frames)
    return render_at(scene, np.linspace(0, 1, num_frames), size)


def render_at(scene: Scene, times: np.ndarray, size: int = 64) -> np.ndarray:
    """Render moments of a scene, uint8 `(F, size, size, 3)`, RGB.

    The times `(F,)` are from 0, the start of the clip, to 1, its end. A frame too small
    to show anything is a `ValueError`.

    Example:
        ```python
        render_at(MotionClips().scene(0), np.array([0.5])).shape  # (1, 64, 64, 3)
        ```
    """
    if size < 16:
        raise refusal("size must be at least 16 pixels", size)
    times = np.asarray(times, "float64")
    draw = _figure if scene.shape == "dancer" else _outline
    distance, top, left = draw(scene, times, size)
    coverage = (np.clip(0.5 - distance, 0, 1) * 255 + 0.5).astype("uint8")
    palette = _palette(scene)
    frames = np.empty((len(times), size, size, 3), "uint8")
    frames[:] = palette[0]
    height, width = coverage.shape[1:]
    for frame, window, y, x in zip(frames, palette[coverage], top, left, strict=True):
        frame[y : y + height, x : x + width] = window
    return frames


def _outline(scene, times, size):
    """Signed distances in the windows around a shape, and where these are."""
    path = path_of(scene, times)
    radius = _on_grid(path.radius * size)
    centre = _on_grid(np.stack([path.x, path.y]) * size)
    extent = 2 * REACH[scene.shape] * radius.max()
    x, y, top, left = _windows(*centre, extent, size)
    if scene.motion == "spinning":
        angle = np.radians(path.turn)
        sine, cosine = (_on_grid(f(angle))[:, None, None] for f in (np.sin, np.cos))
        x, y = cosine * x + sine * y, cosine * y - sine * x
    return outline_distance(scene.shape, x, y, radius[:, None, None]), top, left


def outline_distance(
    shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    """Measure how far pixels, `x` right of the centre and `y` below, are from a shape.

    Exact beside the edges, as anti-aliasing needs it; outside of corners too small. By
    operations that IEEE 754 defines to the last bit: the same on every machine.
    """
    if shape == "circle":
        return np.sqrt(x * x + y * y) - radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - SQUARE_HALF_SIDE * radius
    if shape == "triangle":
        # With one corner up.
        slanted = math.sqrt(0.75) * np.abs(x) - 0.5 * y
        return np.maximum(slanted, y) - 0.5 * REACH["triangle"] * radius
    return _star_distance(x, y, radius)


def _star_distance(x, y, radius):
    """Five points, one up: the plane folded onto the wedge of half a point."""
    x, y = np.abs(x), -y
    for side in (1, -1):
        across, along = side * math.cos(math.pi / 5), -math.sin(math.pi / 5)
        beyond = 2 * np.maximum(across * x + along * y, 0)
        x, y = x - across * beyond, y - along * beyond
    x = np.abs(x)
    # The outline in the wedge runs from the tip (0, reach) to the waist.
    edge_x = _STAR_WAIST * math.sin(math.pi / 5)
    edge_y = _STAR_WAIST * math.cos(math.pi / 5) - 1
    length = math.sqrt(edge_x**2 + edge_y**2)
    tip = REACH["star"] * radius
    return ((y - tip) * edge_x - x * edge_y) / length


def _figure(scene, times, size):
    """The same of a dancer: the least of the distances to its limbs."""
    limbs = [
        limb._replace(start=_on_grid(limb.start * size), end=_on_grid(limb.end * size))
        for limb in figure_of(scene, times)
    ]
    joints = np.stack([joint for limb in limbs for joint in (limb.start, limb.end)])
    thickest = max(limb.radius for limb in limbs) * size
    middle = (joints.min(axis=0) + joints.max(axis=0)) / 2
    extent = (joints.max(axis=0) - joints.min(axis=0)).max()
    x, y, top, left = _windows(*middle.T, extent + 2 * thickest, size)
    least = None
    for limb in limbs:
        start, end = (point - middle for point in (limb.start, limb.end))
        distance = _bar_distance(x, y, start, end) - np.float32(limb.radius * size)
        least = distance if least is None else np.minimum(least, distance)
    return least, top, left


def _bar_distance(x, y, start, end):
    """Distance from the line between two points, for each frame."""
    start_x, start_y = (axis[:, None, None] for axis in start.T)
    along_x, along_y = (axis[:, None, None] for axis in (end - start).T)
    length = np.maximum(along_x * along_x + along_y * along_y, np.float32(1e-6))
    x, y = x - start_x, y - start_y
    share = np.clip(x * (along_x / length) + y * (along_y / length), 0, 1)
    x, y = x - share * along_x, y - share * along_y
    return np.sqrt(x * x + y * y)


def _windows(centre_x, centre_y, extent, size):
    """Windows that what extends so far and its soft edge lie in.

    They are distances of pixels from the centres `(F,)`, `(F, 1, side)` to the right
    and `(F, side, 1)` down, and first rows and columns `(F,)`.
    """
    side = min(size, math.ceil(extent) + 3)

    def window(centre):
        first = np.floor(centre - side / 2 + 0.5).astype(int)
        first = np.clip(first, 0, size - side)
        pixels = first[:, None] + np.arange(side) + 0.5
        return first, (pixels - centre[:, None]).astype("float32")

    (left, x), (top, y) = window(centre_x), window(centre_y)
    return x[:, None, :], y[:, :, None], top, left


def _palette(scene):
    """RGB `(256, 3)` of what is covered by so many 255ths."""
    share = np.arange(256)[:, None] / 255
    background, colour = np.array(scene.background_rgb), np.array(scene.rgb)
    mixed = background + share * (colour - background)
    return np.floor(mixed * 255 + 0.5).astype("uint8")


def _on_grid(values):
    return (np.round(np.asarray(values) * _GRID) / _GRID).astype("float32")


class Path(NamedTuple):
    """A shape over time, each `(F,)`; lengths are fractions of the frame's side."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    turn: np.ndarray  # Degrees clockwise.


class Limb(NamedTuple):
    """A rounded bar between two points `(F, 2)`; a head ends where it starts."""

    start: np.ndarray
    end: np.ndarray
    radius: float  # Half of the thickness.


def path_of(scene: Scene, times: np.ndarray) -> Path:
    """Follow any shape but a dancer, at `times` `(F,)` from 0 to 1, the clip's end."""
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
    pose = _pose(scene, times)
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
        zeros = np.zeros_like(times)
        foot = np.stack([zeros + side * _STANCE, zeros], axis=-1)
        knee = (hip + foot) / 2
        knee[:, 0] += side * pose.crouch
        joints = [(shoulder, elbow), (elbow, hand), (hip, knee), (knee, foot)]
        limbs += [Limb(placed(a), placed(b), _LIMB_RADIUS) for a, b in joints]
    return [limb._replace(radius=height * limb.radius) for limb in limbs]


class _Pose(NamedTuple):
    """How the figure stands; all `(F,)`, angles in degrees: 0 is down, 90 outwards."""

    left_arm: tuple[np.ndarray, np.ndarray]
    right_arm: tuple[np.ndarray, np.ndarray]
    lean: np.ndarray
    shift: np.ndarray
    crouch: np.ndarray
    lift: np.ndarray


def _pose(scene, times):
    zero = np.zeros_like(times)
    if scene.motion == "jumping":
        height = _hop(times, scene.cycles)
        arm, crouch = 40 + 100 * height, 0.08 * (1 - height) ** 2
        lift = scene.amount * height
        return _Pose((arm, arm), (arm, arm), zero, zero, crouch, lift)
    swing = np.sin(2 * np.pi * scene.cycles * times)
    if scene.motion == "waving":
        swing = scene.amount * swing
        left, right = (zero + 40, zero + 30), (110 + 0.4 * swing, 135 + swing)
        return _Pose(left, right, zero, zero, zero, zero)
    arms = zero + 105, zero + 125
    return _Pose(arms, arms, scene.amount * swing, 0.06 * swing, zero, zero)


def _direction(degrees):
    """Unit vectors `(F, 2)` in a plane whose second axis points up: 0 is down."""
    radians = np.radians(degrees)
    return np.stack([np.sin(radians), -np.cos(radians)], axis=-1)


def _hop(times, cycles):
    """Height `(F,)` from 0, the ground, to 1 of what falls under gravity."""
    phase = times * cycles % 1.0
    return 4 * phase * (1 - phase)
