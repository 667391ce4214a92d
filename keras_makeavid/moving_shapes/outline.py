"""Names of shapes, by the regularity of their outlines."""

from __future__ import annotations

import numpy as np

from keras_makeavid.moving_shapes.segmentation import Segmentation
from keras_makeavid.video.opencv import load_cv2

_RAYS = 72
_SAMPLES_A_PIXEL = 4
_REACH = 0.75
CORNERS = {"triangle": 3, "square": 4, "star": 5}
# How strong the harmonic of its own number of corners is in a small, blurred shape,
# and how much of that a shape must have to be one.
_STRENGTHS = {"triangle": 0.22, "square": 0.1, "star": 0.13}
_LEAST_SHARE = 0.4
# A figure is long: the second harmonic of what is not stays far below.
_FIGURE_LENGTH = 0.42


def outline_reach(segmentation: Segmentation) -> np.ndarray:
    """Measure how far an object reaches in each direction around its centre.

    The reach is the coverage summed along a ray, and so hardly depends on how sharp
    the outline is: in pixels, `(V, 72)` for the V frames in which the object is
    visible, from the right clockwise.
    """
    cv2 = load_cv2()
    coverage = segmentation.coverage[segmentation.visible]
    radius = round(_REACH * min(coverage.shape[1:]))
    size = (_SAMPLES_A_PIXEL * radius, _RAYS)
    flags = cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS
    rays = [cv2.warpPolar(c, size, centre_of(c), radius, flags) for c in coverage]
    return np.stack(rays).sum(-1) / _SAMPLES_A_PIXEL


def outline_harmonics(reach: np.ndarray) -> np.ndarray:
    """Find the regularities of an outline, of its reach `(V, 72)`.

    Harmonic `k`, of complex `(V, 37)`, has the strength of a `k`-fold symmetry, and
    turns with the object.
    """
    return 2 / _RAYS * np.fft.rfft(reach / reach.mean(axis=1, keepdims=True))


def name_shape(harmonics: np.ndarray) -> str:
    """Name one of `SHAPES` by the harmonics of its outline, complex `(V, 37)`."""
    strengths = np.median(np.abs(harmonics), axis=0)
    if strengths[2] > _FIGURE_LENGTH:
        return "dancer"
    shares = {name: strengths[CORNERS[name]] / _STRENGTHS[name] for name in CORNERS}
    likest = max(shares, key=lambda name: shares[name])
    return likest if shares[likest] > _LEAST_SHARE else "circle"


def centre_of(coverage: np.ndarray) -> tuple[float, float]:
    """Find an object's centre of gravity, of its coverage `(H, W)`: x and y in pixels.

    The middle of the first pixel is 0.
    """
    total = coverage.sum()
    x = coverage.sum(0) @ np.arange(coverage.shape[1]) / total
    y = coverage.sum(1) @ np.arange(coverage.shape[0]) / total
    return float(x), float(y)
