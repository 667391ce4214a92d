"""Shapes as signed distances, in pixels: negative inside, 0 on the outline."""

from __future__ import annotations

import math

import numpy as np

# How far a shape reaches from its centre, in radii: about equal areas for all.
_SQUARE_HALF_SIDE = 0.9
_TRIANGLE_REACH = 1.45
_STAR_REACH = 1.45
# Where the outline of a star turns inwards, as a share of its reach.
_STAR_WAIST = 0.45

REACH = {
    "circle": 1.0,
    "square": _SQUARE_HALF_SIDE * math.sqrt(2),
    "triangle": _TRIANGLE_REACH,
    "star": _STAR_REACH,
    # With an arm up, and the thickness of the arm.
    "dancer": 1.25,
}


def outline_distance(
    shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    """Measure how far pixels, `x` right of the centre and `y` below, are from a shape.

    Exact beside the edges, as anti-aliasing needs it; outside of corners too small. By
    operations that IEEE 754 defines to the last bit: the same on every machine.
    """
    return _DISTANCES[shape](x, y, radius)


def _circle(x, y, radius):
    return np.sqrt(x * x + y * y) - radius


def _square(x, y, radius):
    return np.maximum(np.abs(x), np.abs(y)) - _SQUARE_HALF_SIDE * radius


def _triangle(x, y, radius):
    """With one corner up."""
    slanted = math.sqrt(0.75) * np.abs(x) - 0.5 * y
    return np.maximum(slanted, y) - 0.5 * _TRIANGLE_REACH * radius


def _star(x, y, radius):
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
    tip = _STAR_REACH * radius
    return ((y - tip) * edge_x - x * edge_y) / length


_DISTANCES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
}
