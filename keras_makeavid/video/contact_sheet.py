"""All frames of a video in one picture."""

from __future__ import annotations

import math

import numpy as np

from keras_makeavid.video.resize import check_frames, cover_crop

GAP = 4
BACKGROUND = 255


def contact_sheet(
    frames: np.ndarray,
    columns: int | None = None,
    *,
    max_width: int = 1024,
    max_frames: int = 24,
) -> np.ndarray:
    """Lay frames out in reading order on a white grid with thin gaps.

    Frames are never enlarged. Where there are more than `max_frames`, evenly spaced
    ones are shown, with the first and the last among them.

    Args:
        frames: `(F, H, W, 3)`, uint8, RGB.
        columns: Frames a row. None makes the sheet about square.
        max_width: Largest width of the sheet, in pixels.
        max_frames: Most frames shown.

    Returns:
        `(sheet height, sheet width, 3)`, uint8, RGB.

    Raises:
        ValueError: The array is no video, a count is not positive, or so many columns
            do not fit in `max_width`.

    Example:
    ```python
    sheet = contact_sheet(np.zeros((24, 256, 256, 3), "uint8"), columns=6)
    sheet.shape  # (684, 1024, 3)
    ```
    """
    frames = check_frames(frames)
    counts = {"columns": columns, "max_width": max_width, "max_frames": max_frames}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1. Received: {value}")
    if len(frames) > max_frames:
        frames = frames[np.linspace(0, len(frames) - 1, max_frames).round().astype(int)]
    count, height, width, _ = frames.shape
    columns = min(columns or math.ceil(math.sqrt(count * height / width)), count)
    tile_width = min(width, (max_width - GAP * (columns + 1)) // columns)
    if tile_width < 1:
        raise ValueError(f"{columns} columns do not fit in max_width={max_width}.")
    tile_height = max(1, round(height * tile_width / width))
    rows = math.ceil(count / columns)
    sheet = np.full(
        (rows * (tile_height + GAP) + GAP, columns * (tile_width + GAP) + GAP, 3),
        BACKGROUND,
        np.uint8,
    )
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        top = GAP + row * (tile_height + GAP)
        left = GAP + column * (tile_width + GAP)
        tile = cover_crop(frame, tile_height, tile_width)
        sheet[top : top + tile_height, left : left + tile_width] = tile
    return sheet
