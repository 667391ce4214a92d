"""What the solvers share that look back at earlier steps."""

from __future__ import annotations

import abc
import dataclasses

import numpy as np

from keras_makeavid.schedulers.noise_schedule import check_choice
from keras_makeavid.schedulers.scheduler import (
    FINAL_SIGMAS,
    SpacedScheduler,
    check_count,
    karras_spacing,
    signal_scale,
    timesteps_of_sigmas,
    with_final_sigma,
)
from keras_makeavid.schedulers.step_table import StepTable


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultistepScheduler(SpacedScheduler):
    """A solver in `-log(sigma)`, on the denoised samples.

    Args:
        schedule: As for `Scheduler`.
        timestep_spacing: As for `SpacedScheduler`.
        steps_offset: As for `SpacedScheduler`.
        karras_sigmas: Bool, space the noise levels as arXiv 2206.00364 does; the
            timesteps are then the nearest whole ones and `timestep_spacing` has no
            part.
        solver_order: Int, 1 to 3: how many of the denoised samples a step uses.
        final_sigmas_type: `"zero"` ends at no noise, `"sigma_min"` at timestep 0's.

    Raises:
        ValueError: If an argument is none of those.
    """

    karras_sigmas: bool = False
    solver_order: int = 2
    final_sigmas_type: str = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("solver_order", self.solver_order, 1, 3)
        check_choice("final_sigmas_type", self.final_sigmas_type, FINAL_SIGMAS)

    def _table(self, num_steps: int, first: int) -> StepTable:
        timesteps, sigmas = (x[first:] for x in self._noise_levels(num_steps))
        signal = signal_scale(sigmas)
        noise = sigmas * signal
        with np.errstate(divide="ignore"):
            strides = -np.diff(np.log(sigmas))
        orders = _attainable(self._orders(num_steps)[first:], strides)
        # Of the denoised sample that comes next, this one and the two before it.
        predicted, corrected = (
            signal[1:] * weights.T for weights in self._weights(strides, orders)
        )
        correction = corrected - predicted
        next_from_sample = noise[1:] / noise[:-1]
        # A step's own denoised sample also corrects the sample that it starts from.
        learned = np.append(0.0, corrected[0, :-1])
        return self._table_of_unit_variance(
            timesteps,
            signal[:-1],
            noise[:-1],
            next_from_sample=next_from_sample,
            next_from_denoised=predicted[1] + next_from_sample * learned,
            next_from_previous_denoised=predicted[2],
            next_from_earlier_denoised=predicted[3],
            corrected_from_denoised=correction[1],
            corrected_from_previous_denoised=correction[2],
            corrected_from_earlier_denoised=correction[3],
        )

    @abc.abstractmethod
    def _orders(self, num_steps: int) -> np.ndarray:
        """Order of each step, as if there were enough to look back at."""

    @abc.abstractmethod
    def _weights(
        self, strides: np.ndarray, orders: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights `(num_steps, 4)` of denoised samples, predicting and correcting.

        They are those of the next denoised sample, this one and the two before it.
        """

    def _noise_levels(self, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Timesteps and their ratios of noise to signal, with that of the end."""
        train_sigmas = self._train_sigmas()
        if self.karras_sigmas:
            sigmas = karras_spacing(train_sigmas[-1], train_sigmas[0], num_steps)
            timesteps = np.round(timesteps_of_sigmas(sigmas, train_sigmas))
        else:
            # "leading" and "linspace" count the clean end as a point; "trailing" has
            # it one stride below the last.
            num_points = num_steps + (self.timestep_spacing != "trailing")
            timesteps = self._spaced_timesteps(num_points)[:num_steps]
            timesteps = np.round(timesteps).astype(int)
            sigmas = train_sigmas[timesteps]
        return timesteps, with_final_sigma(sigmas, self.final_sigmas_type, train_sigmas)


def _attainable(orders: np.ndarray, strides: np.ndarray) -> np.ndarray:
    """Lower orders to the number of steps there are to look back at.

    A step that does not move has no slope, and none can be seen across it.
    """
    attainable, steps_behind = np.ones_like(orders), 0
    for i, stride in enumerate(strides):
        if stride > 0:
            attainable[i] = min(orders[i], steps_behind + 1)
        steps_behind = steps_behind + 1 if stride > 0 else 0
    return attainable
