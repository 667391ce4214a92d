"""Euler's method."""

from __future__ import annotations

import numpy as np

from keras_makeavid.schedulers.noise_schedule import NoiseSchedule
from keras_makeavid.schedulers.scheduler import (
    Scheduler,
    karras_spacing,
    signal_scale,
    spaced_timesteps,
    timesteps_of_sigmas,
)
from keras_makeavid.schedulers.step_table import StepTable


class Euler(Scheduler):
    """Euler's method on the probability flow (Karras et al., arXiv 2206.00364).

    Here the sample is `latents + sigma * noise`, so its scale grows with `sigma`, up to
    14.6 with Stable Diffusion's schedule. `input_scale` undoes that for the model.

    Args:
        schedule: `NoiseSchedule` that the model was trained with; `None` means
            Stable Diffusion's.
        karras_sigmas: Bool, space the noise levels between the first and the last
            timestep as arXiv 2206.00364 does (eq. 5).
        timestep_spacing: `"leading"`, `"linspace"` or `"trailing"`. With
            `"linspace"` timesteps may be fractions, and a single step is taken at
            timestep 0, as in diffusers.

    Raises:
        ValueError: If the spacing is none of those.

    Example:
    ```python
    table = Euler(karras_sigmas=True).table(20)
    ```
    """

    def __init__(
        self,
        schedule: NoiseSchedule | None = None,
        karras_sigmas: bool = False,
        timestep_spacing: str = "linspace",
    ) -> None:
        super().__init__(schedule, timestep_spacing)
        self.karras_sigmas = karras_sigmas

    def _table(self, num_steps: int) -> StepTable:
        timesteps, sigmas = self._noise_levels(num_steps)
        ratio = np.append(sigmas[1:], 0.0) / sigmas
        signal = signal_scale(sigmas)
        denoised_from_input, denoised_from_prediction = self._denoised_coefficients(
            signal, sigmas * signal
        )
        return StepTable(
            timesteps=timesteps,
            input_scale=signal,
            denoised_from_sample=denoised_from_input * signal,
            denoised_from_prediction=denoised_from_prediction,
            next_from_sample=ratio,
            next_from_denoised=1.0 - ratio,
            next_from_previous_denoised=0.0,
            next_from_noise=0.0,
            initial_sigma=self._initial_sigma(sigmas[0]),
        )

    def _noise_levels(self, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Timesteps and their ratios of noise to signal."""
        train_sigmas = self._train_sigmas()
        timesteps = spaced_timesteps(
            self.timestep_spacing, num_steps, self.schedule.num_train_steps
        )
        sigmas = np.interp(timesteps, np.arange(len(train_sigmas)), train_sigmas)
        if self.karras_sigmas:
            sigmas = karras_spacing(sigmas[0], sigmas[-1], num_steps)
            timesteps = timesteps_of_sigmas(sigmas, train_sigmas)
        return timesteps, sigmas

    def _initial_sigma(self, sigma_max: float) -> float:
        # "leading" starts where some signal is left, and makes room for it.
        if self.timestep_spacing == "leading":
            return float(np.sqrt(sigma_max**2 + 1.0))
        return float(sigma_max)
