"""What all schedulers share."""

import abc
import dataclasses
import numbers
from typing import Any

import numpy as np

from keras_makeavid.schedulers.noise_schedule import NoiseSchedule
from keras_makeavid.schedulers.step_table import StepTable
from keras_makeavid.validation import check_choice, refusal

TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")
KARRAS_RHO = 7.0

# Where training ends in pure noise, sigma is infinite. This stands for that signal, as
# it does in diffusers: the smallest float16 above zero.
SMALLEST_ALPHA_CUMPROD = 2.0**-24


@dataclasses.dataclass(frozen=True)
class Scheduler(abc.ABC):
    """A sampler: turns a number of steps into a `StepTable`.

    It holds no state of a run. Its `schedule` is the `NoiseSchedule` that the model was
    trained with, by default Stable Diffusion's. Arguments that a sampler does not take
    are a `ValueError`.

    Example:
    ```python
    DPMSolverPlusPlus(karras_sigmas=True).table(20).timesteps  # 999, ..., 0
    ```
    """

    schedule: NoiseSchedule = NoiseSchedule()

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, NoiseSchedule):
            raise refusal("schedule must be a NoiseSchedule", self.schedule)

    def table(self, num_steps: int, strength: float = 1.0) -> StepTable:
        """Work out the coefficients of every step: `int(num_steps * strength)` rows.

        Args:
            num_steps: Int, from `1` to `schedule.num_train_steps`, or to
                `original_inference_steps` for LCM and TCD.
            strength: Float above `0`, at most `1`: the share of the steps that are
                taken, the last ones. What is denoised then starts from latents that
                there are, with noise added (`StepTable.start`).

        Raises:
            ValueError: If `num_steps` is outside of that range, no step is left of it,
                or one would ask a noise-predicting model about pure noise.
        """
        check_count("num_steps", num_steps, 1, self._most_steps())
        number = isinstance(strength, int | float) and not isinstance(strength, bool)
        if not number or not 1 <= num_steps * strength <= num_steps:
            raise ValueError(
                "strength must be a number up to 1 that leaves a step of the "
                f"{num_steps}: at least {1 / num_steps:g}. Received: {strength!r}"
            )
        return self._table(int(num_steps), int(num_steps) - int(num_steps * strength))

    def _most_steps(self) -> int:
        return self.schedule.num_train_steps

    @abc.abstractmethod
    def _table(self, num_steps: int, first: int) -> StepTable:
        """Build the table for a number of steps already found valid, from a step on."""

    def _table_of_unit_variance(
        self, timesteps: np.ndarray, signal: np.ndarray, noise: np.ndarray, **columns
    ) -> StepTable:
        """Make the table of samples `signal * latents + noise * noise`."""
        of_sample, of_prediction = self._denoised_coefficients(signal, noise)
        return StepTable(
            timesteps=timesteps,
            input_scale=1.0,
            denoised_from_sample=of_sample,
            denoised_from_prediction=of_prediction,
            initial_sigma=1.0,
            start_from_latents=signal[0],
            start_from_noise=noise[0],
            **columns,
        )

    def _denoised_coefficients(
        self, signal_scale: np.ndarray, noise_scale: np.ndarray
    ) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Factors of sample and prediction in the denoised sample.

        The sample is `signal_scale * denoised + noise_scale * noise`, of unit variance.
        """
        if self.schedule.prediction_type == "sample":
            return 0.0, 1.0
        if self.schedule.prediction_type == "v_prediction":
            return signal_scale, -noise_scale
        if not signal_scale.all():
            raise ValueError(
                "With zero_terminal_snr the last timestep is pure noise, from which "
                "prediction_type='epsilon' gives no sample: expected 'v_prediction', "
                "'sample', or a scheduler whose timestep_spacing leaves the last "
                f"timestep out. Received: {self}"
            )
        return 1.0 / signal_scale, -noise_scale / signal_scale


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpacedScheduler(Scheduler):
    """A sampler for any model: its timesteps may lie anywhere.

    Their spacing is `"leading"` (equal whole strides up from timestep `steps_offset`;
    Stable Diffusion's is 1), `"linspace"` (both ends, fractions between) or
    `"trailing"` (equal strides down from the last, rounded): arXiv 2305.08891, table 2.
    """

    timestep_spacing: str = "linspace"
    steps_offset: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("timestep_spacing", self.timestep_spacing, TIMESTEP_SPACINGS)
        last = self.schedule.num_train_steps - 1
        check_count("steps_offset", self.steps_offset, 0, last)

    def _spaced_timesteps(self, num_points: int) -> np.ndarray:
        """Spread timesteps over those of training, falling, as float64 `(num_points,)`.

        Of 4 points over 1000, `"leading"` makes 751, 501, 251 and 1. Of
        `num_train_steps + 1` points the last may be -1, the clean end below timestep 0.
        """
        steps = self.schedule.num_train_steps
        if self.timestep_spacing == "linspace":
            return np.linspace(0, steps - 1, num_points)[::-1]
        if self.timestep_spacing == "trailing":
            timesteps = np.arange(steps, 0, -steps / num_points)
            # Rounding of the stride may let one more in.
            return np.round(timesteps[:num_points]) - 1.0
        timesteps = np.arange(num_points)[::-1] * max(steps // num_points, 1)
        # With about as many points as timesteps there is no room for the whole offset.
        return timesteps + float(min(self.steps_offset, steps - 1 - timesteps[0]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SigmaScheduler(SpacedScheduler):
    """A sampler that steps through ratios of noise to signal, the sigmas."""

    def _train_sigmas(self) -> np.ndarray:
        """Ratio of noise to signal at each timestep, rising."""
        alphas_cumprod = self.schedule.alphas_cumprod.copy()
        if self.schedule.zero_terminal_snr:
            alphas_cumprod[-1] = SMALLEST_ALPHA_CUMPROD
        return np.sqrt((1.0 - alphas_cumprod) / alphas_cumprod)


def check_count(name: str, value: Any, least: int, most: int) -> None:
    """Refuse what is no whole number of a range."""
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not integer or not least <= value <= most:
        raise refusal(f"{name} must be an integer from {least} to {most}", value)


def signal_scale(sigmas: np.ndarray) -> np.ndarray:
    """Scale of the signal in a sample of variance one, by ratios of noise to signal."""
    return 1.0 / np.sqrt(sigmas**2 + 1.0)


def karras_spacing(sigma_max: float, sigma_min: float, num_steps: int) -> np.ndarray:
    """Spread noise levels, falling, as arXiv 2206.00364 does (eq. 5, rho = 7)."""
    first, last = sigma_max ** (1 / KARRAS_RHO), sigma_min ** (1 / KARRAS_RHO)
    return np.linspace(first, last, num_steps) ** KARRAS_RHO


def timesteps_of_sigmas(sigmas: np.ndarray, train_sigmas: np.ndarray) -> np.ndarray:
    """Find the timesteps `(num_steps,)` at which training had given noise levels.

    Between two they are linear in `log(sigma)`. `train_sigmas`, that of each, rises.
    """
    timesteps = np.arange(len(train_sigmas), dtype="float64")
    return np.interp(np.log(sigmas), np.log(train_sigmas), timesteps)
