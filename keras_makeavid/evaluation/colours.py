"""Names of colours."""

from __future__ import annotations

import colorsys

import numpy as np

_HUES = {"red": 0, "yellow": 55, "green": 120, "blue": 224, "purple": 286}
_HUE_TOLERANCE = 32
_LEAST_SATURATION = 0.25
_LEAST_VALUE = 0.3
_WHITE_VALUE = 0.64

_BLACK_VALUE = 0.2
_GREY_VALUE = 0.72
_BROWN_HUES = (8, 45)


def name_colour(rgb: np.ndarray) -> str | None:
    """Name an object's colour.

    Args:
        rgb: levels of 255, `(3,)`.

    Returns:
        One of `keras_makeavid.data.motions.COLOURS`, or `None` if it is none of them.

    Example:
    ```python
    name_colour(np.array([250, 30, 20]))  # "red"
    ```
    """
    hue, saturation, value = _hsv(rgb)
    if saturation < _LEAST_SATURATION:
        return "white" if value > _WHITE_VALUE else None
    if value < _LEAST_VALUE:
        return None
    distances = {
        name: abs((hue - of_name + 180) % 360 - 180) for name, of_name in _HUES.items()
    }
    nearest = min(distances, key=distances.get)
    return nearest if distances[nearest] <= _HUE_TOLERANCE else None


def name_background(rgb: np.ndarray) -> str | None:
    """Name a background's colour.

    Args:
        rgb: levels of 255, `(3,)`.

    Returns:
        One of `keras_makeavid.data.motions.BACKGROUNDS`, or `None`.

    Example:
    ```python
    name_background(np.array([110, 75, 40]))  # "brown"
    ```
    """
    hue, saturation, value = _hsv(rgb)
    if value < _BLACK_VALUE:
        return "black"
    if saturation < _LEAST_SATURATION:
        return "grey" if value < _GREY_VALUE else None
    return "brown" if _BROWN_HUES[0] <= hue <= _BROWN_HUES[1] else None


def _hsv(rgb):
    hue, saturation, value = colorsys.rgb_to_hsv(*(float(c) / 255 for c in rgb))
    return 360 * hue, saturation, value
