"""FreeInit: noise to start from again that keeps what a video has of slow changes."""

from __future__ import annotations

import numpy as np

# Above this share of the highest frequency, in space and time, noise is new.
_STOP = 0.25
_ORDER = 4


def mixed_noise(noised: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Take the low frequencies of one noise and the high ones of another.

    Wu et al., arXiv 2312.07537, with the Butterworth filter that diffusers takes if not
    told otherwise.

    Args:
        noised: `(B, F, H, W, C)`: a video's latents with the noise that it was made of.
        fresh: New noise of that shape.

    Returns:
        float32 of that shape.

    Example:
    ```python
    noise, fresh = np.random.default_rng(0).standard_normal((2, 1, 16, 8, 8, 4))
    mixed_noise(noise, fresh).shape  # (1, 16, 8, 8, 4)
    ```
    """
    axes = (1, 2, 3)
    sides = [2 * np.arange(size) / size - 1 for size in noised.shape[1:4]]
    distance = sum(side**2 for side in np.meshgrid(*sides, indexing="ij"))
    keep = 1 / (1 + (distance / _STOP**2) ** _ORDER)
    keep = np.fft.ifftshift(keep)[..., None]
    low, high = (np.fft.fftn(x, axes=axes) for x in (noised, fresh))
    mixed = np.fft.ifftn(low * keep + high * (1 - keep), axes=axes)
    return mixed.real.astype("float32")
