"""Frames and their sizes: checks, and resizing that fills the target."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from keras_makeavid.video.opencv import load_cv2

MAX_IMAGE_PIXELS = 2**27


def check_frames(frames: np.ndarray) -> np.ndarray:
    """Return `frames` if they are a video `(F, H, W, 3)`, uint8, with no axis empty."""
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(
            "Frames must be uint8 of shape (F, H, W, 3). "
            f"Received: {frames.dtype} of shape {frames.shape}"
        )
    if frames.size == 0:
        raise ValueError(f"There are no frames. Received: shape {frames.shape}")
    return frames


def check_size(height: int | None, width: int | None) -> None:
    """Refuse a target size of which only one side is given, or that is no size."""
    if (height is None) != (width is None):
        raise ValueError(
            "Give both height and width or neither. "
            f"Received: height={height}, width={width}"
        )
    for name, value in (("height", height), ("width", width)):
        if value is not None and (not isinstance(value, Integral) or value < 1):
            raise ValueError(f"{name} must be a positive int. Received: {value!r}")
    if height and width and height * width > MAX_IMAGE_PIXELS:
        raise ValueError(
            f"A size must not be above {MAX_IMAGE_PIXELS} pixels. "
            f"Received: {width} x {height}"
        )


def cover_crop(
    image: np.ndarray, height: int, width: int, *, nearest: bool = False
) -> np.ndarray:
    """Scale a picture until it covers the target, then crop it about its centre.

    Shrinking averages areas, enlarging is cubic.

    Args:
        image: `(H, W, C)` or `(H, W)`, uint8.
        height: Rows of the result, in pixels.
        width: Columns of the result, in pixels.
        nearest: Take the nearest pixel instead, so that no new values arise: for
            masks.

    Returns:
        `(height, width, C)` or `(height, width)`, uint8.

    Example:
    ```python
    cover_crop(np.zeros((720, 1280, 3), "uint8"), 512, 512).shape  # (512, 512, 3)
    ```
    """
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    cv2 = load_cv2()
    # Cropping first gives the same picture and never holds the uncropped enlargement.
    scale = min(rows / height, columns / width)
    crop_rows = min(rows, max(1, round(height * scale)))
    crop_columns = min(columns, max(1, round(width * scale)))
    top = (rows - crop_rows) // 2
    left = (columns - crop_columns) // 2
    region = image[top : top + crop_rows, left : left + crop_columns]
    if nearest:
        interpolation = cv2.INTER_NEAREST_EXACT
    elif scale > 1:
        interpolation = cv2.INTER_AREA
    else:
        interpolation = cv2.INTER_CUBIC
    return cv2.resize(region, (width, height), interpolation=interpolation)
