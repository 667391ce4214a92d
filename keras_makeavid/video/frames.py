"""What counts as the frames of a video in memory."""

from __future__ import annotations

import numpy as np


def check_frames(frames: np.ndarray) -> np.ndarray:
    """Returns `frames` as an array if they are a video.

    Args:
        frames: Expected `(F, H, W, 3)`, uint8, RGB, with no axis empty.

    Returns:
        The same array.

    Raises:
        ValueError: The type or shape is another.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(
            "Frames must be uint8 of shape (F, H, W, 3), "
            f"received {frames.dtype} of shape {frames.shape}."
        )
    if frames.size == 0:
        raise ValueError(f"There are no frames in an array of shape {frames.shape}.")
    return frames
