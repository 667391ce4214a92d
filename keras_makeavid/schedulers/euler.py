"""Euler's method, plain and ancestral."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_makeavid.schedulers.noise_schedule import check_choice
from keras_makeavid.schedulers.scheduler import (
    FINAL_SIGMAS,
    SpacedScheduler,
    karras_spacing,
    signal_scale,
    timesteps_of_sigmas,
    with_final_sigma,
)
from keras_makeavid.schedulers.step_table import StepTable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler(SpacedScheduler):
    """Euler's method on the probability flow (Karras et al., arXiv 2206.00364).

    Here the sample is `latents + sigma * noise`, so its scale grows with `sigma`, up to
    14.6 with Stable Diffusion's schedule. `input_scale` undoes that for the model.

    Args:
        schedule: `NoiseSchedule` that the model was trained with; Stable Diffusion's
            by default.
        timestep_spacing: `"leading"`, `"linspace"` or `"trailing"`. With
            `"linspace"` timesteps may be fractions, and a single step is taken at
            timestep 0, as in diffusers.
        steps_offset: Int, the lowest timestep of `"leading"`.
        karras_sigmas: Bool, space the noise levels between the first and the last
            timestep as arXiv 2206.00364 does (eq. 5).
        final_sigmas_type: `"zero"` ends at no noise, `"sigma_min"` at timestep 0's.

    Raises:
        ValueError: If an argument is none of those.

    Example:
    ```python
    table = Euler(karras_sigmas=True).table(20)
    ```
    """

    karras_sigmas: bool = False
    final_sigmas_type: str = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("final_sigmas_type", self.final_sigmas_type, FINAL_SIGMAS)

    def _table(self, num_steps: int, first: int) -> StepTable:
        timesteps, sigmas = (x[first:] for x in self._noise_levels(num_steps))
        sigmas, next_sigmas = sigmas[:-1], sigmas[1:]
        signal = signal_scale(sigmas)
        denoised_from_input, denoised_from_prediction = self._denoised_coefficients(
            signal, sigmas * signal
        )
        next_from_sample, next_from_noise = self._shares(next_sigmas / sigmas)
        return StepTable(
            timesteps=timesteps,
            input_scale=signal,
            denoised_from_sample=denoised_from_input * signal,
            denoised_from_prediction=denoised_from_prediction,
            next_from_sample=next_from_sample,
            next_from_denoised=1.0 - next_from_sample,
            next_from_noise=next_from_noise * next_sigmas,
            initial_sigma=self._initial_sigma(sigmas[0]),
            start_from_noise=sigmas[0],
        )

    def _shares(self, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray | float]:
        """What is kept of the noise by the sample, and the share of the fresh one."""
        return ratio, 0.0

    def _noise_levels(self, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Timesteps and their ratios of noise to signal, with that of the end."""
        train_sigmas = self._train_sigmas()
        timesteps = self._spaced_timesteps(num_steps)
        sigmas = np.interp(timesteps, np.arange(len(train_sigmas)), train_sigmas)
        if self.karras_sigmas:
            sigmas = karras_spacing(sigmas[0], sigmas[-1], num_steps)
            timesteps = timesteps_of_sigmas(sigmas, train_sigmas)
        return timesteps, with_final_sigma(sigmas, self.final_sigmas_type, train_sigmas)

    def _initial_sigma(self, sigma_max: float) -> float:
        # "leading" starts where some signal is left, and makes room for it.
        if self.timestep_spacing == "leading":
            return float(np.sqrt(sigma_max**2 + 1.0))
        return float(sigma_max)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EulerAncestral(Euler):
    """Euler's method with fresh noise in each step (as k-diffusion has it).

    A step goes below the next noise level, and fresh noise leads back up to it: as
    much as ancestral sampling adds (Song et al., arXiv 2011.13456, appendix F).

    Args:
        schedule: As for `Euler`.
        timestep_spacing: As for `Euler`.
        steps_offset: As for `Euler`.
        karras_sigmas: As for `Euler`; diffusers has no such choice here.
        final_sigmas_type: As for `Euler`, likewise.

    Raises:
        ValueError: As for `Euler`.

    Example:
    ```python
    EulerAncestral().table(20).needs_noise  # True
    ```
    """

    def _shares(self, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray | float]:
        return ratio**2, np.sqrt(1.0 - ratio**2)
