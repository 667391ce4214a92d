"""What all schedulers share."""

from __future__ import annotations

import abc
import numbers

import numpy as np

from keras_makeavid.schedulers.noise_schedule import NoiseSchedule, check_choice
from keras_makeavid.schedulers.step_table import StepTable

TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")
# Stable Diffusion's `steps_offset`, which moves "leading" timesteps off timestep 0.
LEADING_OFFSET = 1
KARRAS_RHO = 7.0

# Where training ends in pure noise, sigma is infinite. This stands for that signal, as
# it does in diffusers: the smallest float16 above zero.
SMALLEST_ALPHA_CUMPROD = 2.0**-24


class Scheduler(abc.ABC):
    """A sampler: turns a number of steps into a `StepTable`.

    It holds no state of a run; one instance may serve any number of them.

    Args:
        schedule: `NoiseSchedule` that the model was trained with; `None` means
            Stable Diffusion's.
        timestep_spacing: `"leading"` (equal whole strides up from timestep 1),
            `"linspace"` (both ends, fractions between) or `"trailing"` (equal strides
            down from the last timestep, rounded): arXiv 2305.08891, table 2.

    Raises:
        ValueError: If the spacing is none of those.
    """

    def __init__(self, schedule: NoiseSchedule | None, timestep_spacing: str) -> None:
        check_choice("timestep_spacing", timestep_spacing, TIMESTEP_SPACINGS)
        self.schedule = NoiseSchedule() if schedule is None else schedule
        self.timestep_spacing = timestep_spacing

    def table(self, num_steps: int) -> StepTable:
        """Work out the coefficients of every step.

        Args:
            num_steps: Int, from `1` to `schedule.num_train_steps`.

        Returns:
            A `StepTable` of `num_steps` rows.

        Raises:
            ValueError: If `num_steps` is outside of that range, or a step would ask
                a noise-predicting model about pure noise.

        Example:
        ```python
        DPMSolverPlusPlus2M().table(20).timesteps  # 999, 949, ..., 50
        ```
        """
        limit = self.schedule.num_train_steps
        if not isinstance(num_steps, numbers.Integral) or not 1 <= num_steps <= limit:
            raise ValueError(
                f"num_steps must be an integer from 1 to {limit}. Received: "
                f"{num_steps!r}"
            )
        return self._table(int(num_steps))

    @abc.abstractmethod
    def _table(self, num_steps: int) -> StepTable:
        """Build the table for a number of steps already found valid."""

    def _train_sigmas(self) -> np.ndarray:
        """Ratio of noise to signal at each timestep, rising."""
        alphas_cumprod = self.schedule.alphas_cumprod.copy()
        if self.schedule.zero_terminal_snr:
            alphas_cumprod[-1] = SMALLEST_ALPHA_CUMPROD
        return np.sqrt((1.0 - alphas_cumprod) / alphas_cumprod)

    def _denoised_coefficients(
        self, signal_scale: np.ndarray, noise_scale: np.ndarray
    ) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Factors of sample and prediction in the denoised sample.

        The sample is `signal_scale * denoised + noise_scale * noise`, the squares of
        the scales adding up to one.
        """
        if self.schedule.prediction_type == "sample":
            return 0.0, 1.0
        if self.schedule.prediction_type == "v_prediction":
            return signal_scale, -noise_scale
        if not signal_scale.all():
            raise ValueError(
                "With zero_terminal_snr the last timestep is pure noise, from which "
                "prediction_type='epsilon' gives no sample: expected 'v_prediction', "
                "'sample', or a timestep_spacing that leaves the last timestep out. "
                f"Received: timestep_spacing={self.timestep_spacing!r}"
            )
        return 1.0 / signal_scale, -noise_scale / signal_scale


def signal_scale(sigmas: np.ndarray) -> np.ndarray:
    """Scale of the signal in a sample of variance one, by ratios of noise to signal."""
    return 1.0 / np.sqrt(sigmas**2 + 1.0)


def spaced_timesteps(spacing: str, num_points: int, num_train_steps: int) -> np.ndarray:
    """Spread timesteps over those of training, falling, as float64 `(num_points,)`.

    Of 4 points over 1000, `"leading"` makes 751, 501, 251 and 1. Of
    `num_train_steps + 1` points the last may be -1, the clean end below timestep 0.
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
