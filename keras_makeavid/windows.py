"""Long videos in windows of frames that overlap, each a video of the trained length."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BLENDS = ("pyramid", "uniform")


class Windows(NamedTuple):
    """Windows over the frames of a video, and what each counts in a frame."""

    starts: np.ndarray  # Int32 `(N,)`, first frames of the windows.
    shares: np.ndarray  # Float32 `(N, window)`; those of a frame add up to one.
    stride: int  # Frames from one window to the next, but to the last.

    @classmethod
    def over(
        cls, num_frames: int, window: int, overlap: int, blend: str = "pyramid"
    ) -> Windows:
        """Lay windows over a video of as many frames or more; the last ends with it.

        Each shares `overlap` frames with the one before it, the last maybe more.
        """
        last = num_frames - window
        starts = np.append(np.arange(0, last, window - overlap), last).astype("int32")
        weights = frame_weights(window, blend)
        sums = np.zeros(num_frames)
        for start in starts:
            sums[start : start + window] += weights
        inside = starts[:, None] + np.arange(window)
        shares = (weights / sums[inside]).astype("float32")
        return cls(starts, shares, window - overlap)


def frame_weights(window: int, blend: str) -> np.ndarray:
    """How much each frame of a window counts: of FreeNoise (arXiv 2310.15169).

    `"uniform"` is all alike; `"pyramid"` of 5 frames is 1, 2, 3, 2, 1.
    """
    if blend == "uniform":
        return np.ones(window)
    places = np.arange(1, window + 1)
    return np.minimum(places, places[::-1]).astype("float64")


def share_noise(
    noise: np.ndarray, window: int, stride: int, rng: np.random.Generator
) -> np.ndarray:
    """Let all windows of noise `(F, H, W, C)` start as the first, in other orders.

    Section 3.2 of FreeNoise (arXiv 2310.15169): what windows have in common keeps what
    they show alike, and the order, of each `stride`, keeps their motion apart.
    """
    noise = noise.copy()
    for start in range(window, len(noise), stride):
        source = start - window + rng.permutation(min(stride, window))
        stop = min(len(noise), start + len(source))
        noise[start:stop] = noise[source[: stop - start]]
    return noise
