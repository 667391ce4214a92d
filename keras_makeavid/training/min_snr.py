"""Weights of the timesteps in the loss."""

from __future__ import annotations

from keras import ops

from keras_makeavid.schedulers import NoiseSchedule


def min_snr_weights(schedule: NoiseSchedule, timesteps, gamma: float):
    """Min-SNR-gamma weights (Hang et al., 2023) of a squared error.

    Their weight of an error of the *latents* is `min(SNR, gamma)`. An error of the
    noise is one of the latents times the root of the SNR, and one of the velocity
    that times the root of `SNR + 1`: so theirs are divided by SNR and by `SNR + 1`.

    Args:
        schedule: whose signal-to-noise ratio and prediction type are meant.
        timesteps: int tensor `(B,)`.
        gamma: ratio from which on all timesteps count alike; theirs is 5.

    Returns:
        float32 tensor `(B,)`.

    Example:
    ```python
    min_snr_weights(NoiseSchedule(), np.array([0, 500, 999]), gamma=5.0)
    ```
    """
    ratio = schedule.signal_to_noise(timesteps)
    clipped = ops.minimum(ratio, gamma)
    if schedule.prediction_type == "sample":
        return clipped
    if schedule.prediction_type == "v_prediction":
        return clipped / (ratio + 1.0)
    # As the minimum of quotients it is 1, not 0 / 0, where nothing of the signal is
    # left.
    return ops.minimum(1.0, gamma / ops.maximum(ratio, 1e-30))
