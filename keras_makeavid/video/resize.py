"""Frames and their sizes: checks, resizing that fills the target, contact sheets."""

import math

import numpy as np

from keras_makeavid.validation import check_least
from keras_makeavid.video.opencv import load_cv2

MAX_IMAGE_PIXELS = 2**27
# Of contact sheets, in pixels and in levels of 255.
_GAP = 4
_BACKGROUND = 255


def check_frames(frames: np.ndarray) -> np.ndarray:
    """Return `frames` if they are a video `(F, H, W, 3)`, uint8, with no axis empty."""
    frames = np.asarray(frames)
    is_rgb = frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[-1] == 3
    if not is_rgb or frames.size == 0:
        problem = "Frames must be uint8 of shape (F, H, W, 3), and not empty"
        raise ValueError(f"{problem}. Received: {frames.dtype} of shape {frames.shape}")
    return frames


def check_size(height: int | None, width: int | None) -> None:
    """Refuse a target size of which only one side is given, or that is no size."""
    if (height is None) != (width is None):
        expected = "Give both height and width or neither"
        raise ValueError(f"{expected}. Received: height={height}, width={width}")
    check_least(1, height=height, width=width)
    if height and width and height * width > MAX_IMAGE_PIXELS:
        expected = f"A size must not be above {MAX_IMAGE_PIXELS} pixels"
        raise ValueError(f"{expected}. Received: {width} x {height}")


def cover_crop(
    image: np.ndarray, height: int, width: int, *, nearest: bool = False
) -> np.ndarray:
    """Scale a uint8 picture until it covers the target, then crop it about its centre.

    Shrinking averages areas, enlarging is cubic; `nearest` takes the nearest pixel
    instead, so that no new values arise: for masks. From `(H, W, C)` or `(H, W)` it
    makes `(height, width, C)` or `(height, width)`.

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


def contact_sheet(
    frames: np.ndarray,
    columns: int | None = None,
    *,
    max_width: int = 1024,
    max_frames: int = 24,
) -> np.ndarray:
    """Lay frames out in reading order on a white grid with thin gaps, uint8 RGB.

    Frames are never enlarged. Where there are more than `max_frames`, evenly spaced
    ones are shown, with the first and the last among them. What is no video or positive
    count, and columns too many, are a `ValueError`.

    Args:
        frames: `(F, H, W, 3)`, uint8, RGB.
        columns: Frames a row. None makes the sheet about square.
        max_width: Largest width of the sheet, in pixels.
        max_frames: Most frames shown.

    Example:
    ```python
    frames = np.zeros((24, 256, 256, 3), "uint8")
    contact_sheet(frames, columns=6).shape  # (684, 1024, 3)
    ```
    """
    frames = check_frames(frames)
    check_least(1, columns=columns, max_width=max_width, max_frames=max_frames)
    if len(frames) > max_frames:
        frames = frames[np.linspace(0, len(frames) - 1, max_frames).round().astype(int)]
    count, height, width, _ = frames.shape
    columns = min(columns or math.ceil(math.sqrt(count * height / width)), count)
    tile_width = min(width, (max_width - _GAP * (columns + 1)) // columns)
    if tile_width < 1:
        raise ValueError(f"{columns} columns do not fit in max_width={max_width}.")
    tile_height = max(1, round(height * tile_width / width))
    rows = math.ceil(count / columns)
    sheet = np.full(
        (rows * (tile_height + _GAP) + _GAP, columns * (tile_width + _GAP) + _GAP, 3),
        _BACKGROUND,
        np.uint8,
    )
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        top = _GAP + row * (tile_height + _GAP)
        left = _GAP + column * (tile_width + _GAP)
        tile = cover_crop(frame, tile_height, tile_width)
        sheet[top : top + tile_height, left : left + tile_width] = tile
    return sheet
