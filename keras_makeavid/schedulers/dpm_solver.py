"""DPM-Solver++."""

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


class DPMSolverPlusPlus2M(Scheduler):
    """DPM-Solver++ 2M (Lu et al., arXiv 2211.01095, algorithm 2).

    Multistep, second order, midpoint; the first step and the last one, which ends at
    no noise, are of first order.

    Args:
        schedule: `NoiseSchedule` that the model was trained with; `None` means
            Stable Diffusion's.
        karras_sigmas: Bool, space the noise levels as arXiv 2206.00364 does; the
            timesteps are then the nearest whole ones and `timestep_spacing` has no
            part.
        timestep_spacing: `"leading"`, `"linspace"` or `"trailing"`.

    Raises:
        ValueError: If the spacing is none of those.

    Example:
    ```python
    table = DPMSolverPlusPlus2M(karras_sigmas=True).table(20)
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
        next_sigmas = np.append(sigmas[1:], 0.0)
        signal, next_signal = signal_scale(sigmas), signal_scale(next_sigmas)
        denoised_from_sample, denoised_from_prediction = self._denoised_coefficients(
            signal, sigmas * signal
        )
        first_order = next_signal * (1.0 - next_sigmas / sigmas)
        correction = first_order * _extrapolation(sigmas)
        return StepTable(
            timesteps=timesteps,
            input_scale=1.0,
            denoised_from_sample=denoised_from_sample,
            denoised_from_prediction=denoised_from_prediction,
            next_from_sample=next_sigmas * next_signal / (sigmas * signal),
            next_from_denoised=first_order + correction,
            next_from_previous_denoised=-correction,
            next_from_noise=0.0,
            initial_sigma=1.0,
        )

    def _noise_levels(self, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Timesteps and their ratios of noise to signal."""
        train_sigmas = self._train_sigmas()
        if self.karras_sigmas:
            sigmas = karras_spacing(train_sigmas[-1], train_sigmas[0], num_steps)
            return np.round(timesteps_of_sigmas(sigmas, train_sigmas)), sigmas
        # "leading" and "linspace" count the clean end as a point; "trailing" has it
        # one stride below the last.
        num_points = num_steps + (self.timestep_spacing != "trailing")
        timesteps = spaced_timesteps(
            self.timestep_spacing, num_points, self.schedule.num_train_steps
        )
        timesteps = np.round(timesteps[:num_steps]).astype(int)
        return timesteps, train_sigmas[timesteps]


def _extrapolation(sigmas: np.ndarray) -> np.ndarray:
    """Weight of `denoised - previous_denoised`, `1 / (2 r)` in the paper.

    Zero, that is first order, in the first and the last step, and after a step that
    did not move: then there is no slope to follow.
    """
    weights = np.zeros_like(sigmas)
    strides = -np.diff(np.log(sigmas))
    moved = strides[:-1] > 0
    weights[1:-1][moved] = 0.5 * strides[1:][moved] / strides[:-1][moved]
    return weights
