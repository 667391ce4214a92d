"""Which noise levels a sampler visits."""

from __future__ import annotations

import numpy as np

TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")
# Stable Diffusion's `steps_offset`, which moves "leading" timesteps off timestep 0.
LEADING_OFFSET = 1
KARRAS_RHO = 7.0


def spaced_timesteps(spacing: str, num_points: int, num_train_steps: int) -> np.ndarray:
    """Spreads timesteps over those of training (arXiv 2305.08891, table 2).

    Args:
        spacing: `"leading"` (equal whole strides up from timestep 1), `"linspace"`
            (both ends, fractions between) or `"trailing"` (equal strides down from
            the last timestep, rounded).
        num_points: Int, from `1` to `num_train_steps + 1`.
        num_train_steps: Int, number of timesteps in training.

    Returns:
        float64 array `(num_points,)`, falling. Of `num_train_steps + 1` points the
        last may be `-1`, the clean end below timestep 0.

    Example:
    ```python
    spaced_timesteps("leading", 4, 1000)  # 751, 501, 251, 1
    ```
    """
    last = num_train_steps - 1
    if spacing == "linspace":
        return np.linspace(0, last, num_points)[::-1]
    if spacing == "trailing":
        stride = num_train_steps / num_points
        timesteps = np.arange(num_train_steps, 0, -stride)
        # Rounding of the stride may let one more in.
        return np.round(timesteps[:num_points]) - 1.0
    stride = max(num_train_steps // num_points, 1)
    timesteps = np.arange(num_points)[::-1] * stride
    # With about as many points as timesteps there is no room for the whole offset.
    return timesteps + float(min(LEADING_OFFSET, last - timesteps[0]))


def karras_spacing(sigma_max: float, sigma_min: float, num_steps: int) -> np.ndarray:
    """Spread noise levels as arXiv 2206.00364 does (eq. 5, rho = 7).

    They fall from `sigma_max` to `sigma_min`, which two steps or more reach.
    """
    first, last = sigma_max ** (1 / KARRAS_RHO), sigma_min ** (1 / KARRAS_RHO)
    return np.linspace(first, last, num_steps) ** KARRAS_RHO


def timesteps_of_sigmas(sigmas: np.ndarray, train_sigmas: np.ndarray) -> np.ndarray:
    """Find the timesteps `(num_steps,)` at which training had given noise levels.

    Between two timesteps they are linear in `log(sigma)`. `train_sigmas`, the level of
    each timestep, rises.
    """
    timesteps = np.arange(len(train_sigmas), dtype="float64")
    return np.interp(np.log(sigmas), np.log(train_sigmas), timesteps)
