"""DDIM."""

from __future__ import annotations

import numpy as np

from keras_makeavid.schedulers.noise_schedule import NoiseSchedule
from keras_makeavid.schedulers.scheduler import Scheduler, spaced_timesteps
from keras_makeavid.schedulers.step_table import StepTable


class DDIM(Scheduler):
    """Denoising diffusion implicit models (Song et al., arXiv 2010.02502, eq. 12).

    Ends at the noise level of timestep 0 rather than at no noise, as Stable Diffusion
    does (`set_alpha_to_one: false`).

    Args:
        schedule: `NoiseSchedule` that the model was trained with; `None` means
            Stable Diffusion's.
        eta: Float in `[0, 1]`, share of fresh noise: `0` is deterministic, `1` is
            ancestral sampling as in DDPM.
        timestep_spacing: `"leading"`, `"linspace"` or `"trailing"`.

    Raises:
        ValueError: If `eta` or the spacing is outside of that.

    Example:
    ```python
    table = DDIM(eta=0.5).table(20)
    ```
    """

    def __init__(
        self,
        schedule: NoiseSchedule | None = None,
        eta: float = 0.0,
        timestep_spacing: str = "leading",
    ) -> None:
        super().__init__(schedule, timestep_spacing)
        if not 0.0 <= eta <= 1.0:
            raise ValueError(f"eta must be from 0 to 1. Received: {eta!r}")
        self.eta = eta

    def _table(self, num_steps: int) -> StepTable:
        num_train_steps = self.schedule.num_train_steps
        timesteps = spaced_timesteps(self.timestep_spacing, num_steps, num_train_steps)
        timesteps = np.round(timesteps).astype(int)
        next_timesteps = np.maximum(timesteps - num_train_steps // num_steps, 0)
        alphas = self.schedule.alphas_cumprod[timesteps]
        next_alphas = self.schedule.alphas_cumprod[next_timesteps]
        variance = (1 - next_alphas) / (1 - alphas) * (1 - alphas / next_alphas)
        fresh_variance = self.eta**2 * variance
        signal_scale, noise_scale = np.sqrt(alphas), np.sqrt(1 - alphas)
        denoised_from_sample, denoised_from_prediction = self._denoised_coefficients(
            signal_scale, noise_scale
        )
        next_from_sample = np.sqrt(1 - next_alphas - fresh_variance) / noise_scale
        return StepTable(
            timesteps=timesteps,
            input_scale=1.0,
            denoised_from_sample=denoised_from_sample,
            denoised_from_prediction=denoised_from_prediction,
            next_from_sample=next_from_sample,
            next_from_denoised=np.sqrt(next_alphas) - next_from_sample * signal_scale,
            next_from_previous_denoised=0.0,
            next_from_noise=np.sqrt(fresh_variance),
            initial_sigma=1.0,
        )
