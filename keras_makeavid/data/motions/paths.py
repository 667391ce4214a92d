"""Where a shape is at each moment of its clip, how large, and how turned."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_makeavid.data.motions.scene import Scene


class Path(NamedTuple):
    """A shape over time; lengths are fractions of the frame's side.

    Attributes:
        x: centre, `(F,)`.
        y: centre, `(F,)`.
        radius: `(F,)`.
        turn: degrees clockwise, `(F,)`.
    """

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    turn: np.ndarray


def path_of(scene: Scene, times: np.ndarray) -> Path:
    """The path of a scene's shape, a dancer left aside.

    A motion lasts the whole clip: with more frames it is slower, and stays within the
    frame.

    Args:
        scene: of any shape but a dancer.
        times: `(F,)`, from 0, the start of the clip, to 1, its end.

    Returns:
        A `Path`.

    Example:
        ```python
        star = Description("red", "star", "spinning")
        scene = draw_scene_of(star, np.random.default_rng(0))
        path_of(scene, np.linspace(0, 1, 16)).turn[0]  # 0.0
        ```
    """
    x, y = np.full_like(times, scene.x), np.full_like(times, scene.y)
    radius, turn = np.full_like(times, scene.radius), np.zeros_like(times)
    way = scene.amount * times
    if scene.motion == "moving left":
        x -= way
    elif scene.motion == "moving right":
        x += way
    elif scene.motion == "moving up":
        y -= way
    elif scene.motion == "moving down":
        y += way
    elif scene.motion == "growing":
        radius *= 1 + (scene.amount - 1) * times
    elif scene.motion == "shrinking":
        radius *= 1 - (1 - 1 / scene.amount) * times
    elif scene.motion == "spinning":
        turn += way
    elif scene.motion == "bouncing":
        y -= scene.amount * hop(times, scene.cycles)
    return Path(x, y, radius, turn)


def hop(times: np.ndarray, cycles: int) -> np.ndarray:
    """Height above the ground of what bounces, as it falls under gravity.

    Args:
        times: `(F,)`, from 0 to 1.
        cycles: number of hops.

    Returns:
        `(F,)`, from 0, the ground, to 1.

    Example:
        ```python
        hop(np.array([0.0, 0.25, 0.5, 0.75, 1.0]), 2)  # array([0., 1., 0., 1., 0.])
        ```
    """
    phase = times * cycles % 1.0
    return 4 * phase * (1 - phase)
