"""One object told apart from its plain background, and the shape of its outline."""

from typing import NamedTuple

import numpy as np

from keras_makeavid.video.opencv import load_cv2
from keras_makeavid.video.resize import check_frames

# All is measured at this length of the shorter side, in pixels.
WORKING_SIZE = 64
# In levels of 255: below that contrast there is nothing to see.
_LEAST_CONTRAST = 24.0
# The smallest object is a fortieth of the frame.
_STRONGEST_PERCENTILE = 99
_MOST_FRAMES = 75
# Of the contrast: pixels that the object covers wholly.
_FULL = 0.9
_BLUR = 0.7
_BORDER = 2
_IN_REGION = 0.4
_LEAST_PART = 0.1
_LEAST_AREA = 0.003

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


class Segmentation(NamedTuple):
    """An object in a video."""

    coverage: np.ndarray  # Of each pixel, 0 to about 1, float32 `(F, H, W)`.
    rgb: np.ndarray  # Its colour, in levels of 255.
    visible: np.ndarray  # In which frames there is enough of it, bool `(F,)`.


def working_frames(frames: np.ndarray) -> np.ndarray:
    """Bring uint8 frames to the size at which all is measured, as levels in float32."""
    frames = check_frames(frames)
    height, width = frames.shape[1:3]
    scale = WORKING_SIZE / min(height, width)
    if scale == 1:
        return frames.astype("float32")
    cv2 = load_cv2()
    size = (round(width * scale), round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.stack(
        [cv2.resize(f.astype("float32"), size, interpolation=how) for f in frames]
    )


def background_of(frames: np.ndarray) -> np.ndarray:
    """Find the colour `(F, 3)` of most of each frame's border: seldom the object's."""
    border = np.ones(frames.shape[1:3], bool)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    return np.median(frames[:, border], axis=1)


def segment(frames: np.ndarray) -> Segmentation | None:
    """Find what stands out from the background, of `working_frames`; `None` if nothing.

    Coverage is how far a pixel's colour is on the way from background to object.
    """
    cv2 = load_cv2()
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), _BLUR) for frame in frames])
    background = background_of(smooth)
    difference = smooth - background[:, None, None]
    distance = np.sqrt(np.einsum("fhwc,fhwc->fhw", difference, difference))
    strongest = np.percentile(
        distance.reshape(len(frames), -1), _STRONGEST_PERCENTILE, axis=1
    )
    # The object may leave the frame: it counts where it stands out most.
    contrast = np.percentile(strongest, _MOST_FRAMES)
    if contrast < _LEAST_CONTRAST:
        return None
    direction = np.median(difference[distance > _FULL * contrast], axis=0)
    coverage = np.clip(difference @ (direction / (direction @ direction)), 0, 1.2)
    coverage = np.stack([frame * _region(frame) for frame in coverage])
    visible = coverage.mean((1, 2)) > _LEAST_AREA
    if not visible.any():
        return None
    rgb = np.median(background, axis=0) + direction
    return Segmentation(coverage, np.clip(rgb, 0, 255), visible)


def _region(coverage):
    """1 around the largest connected part and those not much smaller, else 0."""
    cv2 = load_cv2()
    inside = (coverage > _IN_REGION).astype("uint8")
    _, labels, parts, _ = cv2.connectedComponentsWithStats(inside)
    areas = parts[:, cv2.CC_STAT_AREA]
    # Label 0 is the background.
    kept = areas >= _LEAST_PART * areas[1:].max(initial=1)
    kept[0] = False
    region = kept[labels].astype("uint8")
    # The object's soft edge lies beyond.
    return cv2.dilate(region, np.ones((5, 5), "uint8"))


def outline_reach(segmentation: Segmentation) -> np.ndarray:
    """Sum an object's coverage along 72 rays from its centre, from the right clockwise.

    In pixels, `(V, 72)` for the V frames in which it is visible.
    """
    cv2 = load_cv2()
    coverage = segmentation.coverage[segmentation.visible]
    radius = round(_REACH * min(coverage.shape[1:]))
    size = (_SAMPLES_A_PIXEL * radius, _RAYS)
    flags = cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS
    rays = [cv2.warpPolar(c, size, centre_of(c), radius, flags) for c in coverage]
    return np.stack(rays).sum(-1) / _SAMPLES_A_PIXEL


def outline_harmonics(reach: np.ndarray) -> np.ndarray:
    """Find each `k`-fold symmetry's strength and turn, complex `(V, 37)`."""
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
    """Find the centre of gravity of coverage `(H, W)`: x and y in pixels."""
    total = coverage.sum()
    x = coverage.sum(0) @ np.arange(coverage.shape[1]) / total
    y = coverage.sum(1) @ np.arange(coverage.shape[0]) / total
    return float(x), float(y)
