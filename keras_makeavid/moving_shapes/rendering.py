"""Scenes to frames, anti-aliased."""

from __future__ import annotations

import math

import numpy as np

from keras_makeavid.moving_shapes.movement import figure_of, path_of
from keras_makeavid.moving_shapes.scene import Scene
from keras_makeavid.moving_shapes.shapes import REACH, outline_distance

# Sines and cosines differ in the last bit between processors. Rounded to this part of
# a pixel they do not, and from there on all is exact by IEEE 754.
_GRID = 4096


def render(scene: Scene, num_frames: int = 16, size: int = 64) -> np.ndarray:
    """Render a whole clip of `scene`: the more frames, the slower the motion."""
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1. Received: {num_frames}")
    return render_at(scene, np.linspace(0, 1, num_frames), size)


def render_at(scene: Scene, times: np.ndarray, size: int = 64) -> np.ndarray:
    """Render moments of a clip.

    Args:
        scene: What to show.
        times: `(F,)`, from 0, the start of the clip, to 1, its end.
        size: Height and width in pixels.

    Returns:
        uint8 `(F, size, size, 3)`, RGB.

    Raises:
        ValueError: The frame is too small to show anything.

    Example:
        ```python
        scene = MotionClips().scene(0)
        render_at(scene, np.array([0.5])).shape  # (1, 64, 64, 3)
        ```
    """
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels. Received: {size}")
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
    """Windows that what extends so far and its soft edge lie in, anywhere.

    Returns the distances of their pixels from the centres `(F,)`, `(F, 1, side)` to the
    right and `(F, side, 1)` down, and `(F,)` first rows and columns.
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
