"""The noise of training: how much of it each timestep holds."""

from __future__ import annotations

import dataclasses
import functools
import numbers
from typing import Any

import numpy as np
from keras import ops

from keras_makeavid.validation import check_choice, refusal

BETA_SCHEDULES = ("scaled_linear", "linear")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
# Keys of diffusers' files, and the arguments of `NoiseSchedule` that they are.
DIFFUSERS_KEYS = {
    "num_train_timesteps": "num_train_steps",
    "beta_start": "beta_start",
    "beta_end": "beta_end",
    "beta_schedule": "beta_schedule",
    "prediction_type": "prediction_type",
    "rescale_betas_zero_snr": "zero_terminal_snr",
}
# A configuration file is untrusted: it must not decide how much memory is taken.
MAX_TRAIN_STEPS = 100_000


@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
    """Variance-preserving noise schedule of a diffusion model.

    A latent `x` at timestep `t` is `sqrt(a[t]) * x + sqrt(1 - a[t]) * noise`, with `a =
    alphas_cumprod` the running product of `1 - beta` (Ho et al., arXiv 2006.11239, eq.
    4). The defaults are Stable Diffusion's.

    Args:
        num_train_steps: Int, number of timesteps, `2` to `100_000`. Timesteps are `0`
            (least noise) to `num_train_steps - 1`.
        beta_start: Float in `(0, 1)`, noise variance added at timestep `0`.
        beta_end: Float in `[beta_start, 1)`, the same at the last timestep.
        beta_schedule: `"scaled_linear"` (the square root of beta is linear in the
            timestep) or `"linear"` (beta is).
        prediction_type: What the model is trained to give. `"epsilon"`: the noise;
            `"v_prediction"`: `sqrt(a) * noise - sqrt(1 - a) * latents`; or `"sample"`.
        zero_terminal_snr: Bool, shift and scale `sqrt(alphas_cumprod)` so that the last
            timestep is pure noise (arXiv 2305.08891, algorithm 1).

    Raises:
        ValueError: If an argument is none of these.

    Example:
    ```python
    latents = np.zeros((2, 24, 64, 64, 4), "float32")
    noise = np.random.default_rng(0).normal(size=latents.shape)
    noisy = NoiseSchedule().add_noise(latents, noise, np.array([0, 999]))
    ```
    """

    num_train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    prediction_type: str = "epsilon"
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        steps = self.num_train_steps
        if not isinstance(steps, int) or not 2 <= steps <= MAX_TRAIN_STEPS:
            raise refusal(
                f"num_train_steps must be an integer from 2 to {MAX_TRAIN_STEPS}", steps
            )
        betas = (self.beta_start, self.beta_end)
        if not all(isinstance(beta, numbers.Real) for beta in betas) or not (
            0 < self.beta_start <= self.beta_end < 1
        ):
            raise ValueError(
                "Expected numbers 0 < beta_start <= beta_end < 1. Received: "
                f"beta_start={self.beta_start!r} and beta_end={self.beta_end!r}"
            )
        check_choice("beta_schedule", self.beta_schedule, BETA_SCHEDULES)
        check_choice("prediction_type", self.prediction_type, PREDICTION_TYPES)
        if not isinstance(self.zero_terminal_snr, bool):
            raise refusal("zero_terminal_snr must be a bool", self.zero_terminal_snr)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as a dict that `from_config` and JSON accept."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> NoiseSchedule:
        """Make a schedule of what `get_config` gave; other keys are a `ValueError`."""
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(config) - set(names))
        if unknown:
            problem = f"Unknown noise schedule arguments {unknown}"
            raise ValueError(f"{problem}, expected some of {names}.")
        return cls(**config)

    @classmethod
    def from_diffusers_config(cls, config: dict[str, Any]) -> NoiseSchedule:
        """Read the schedule out of a hub folder's `scheduler/scheduler_config.json`.

        What belongs to a sampler rather than to the noise (`steps_offset`,
        `clip_sample`, `timestep_spacing`, ...) is not looked at. `beta_start`,
        `beta_end` and `beta_schedule` must be there; others mean what diffusers does.

        Raises:
            ValueError: If the betas are missing or given one by one (`trained_betas`),
                or a value is not one that `NoiseSchedule` takes.

        Example:
        ```python
        betas = {"beta_start": 0.00085, "beta_end": 0.012}
        NoiseSchedule.from_diffusers_config({"beta_schedule": "scaled_linear", **betas})
        ```
        """
        # diffusers fills these with defaults that are not Stable Diffusion's, and
        # configurations of flow matching and EDM have none of them.
        betas = ("beta_start", "beta_end", "beta_schedule")
        missing = [name for name in betas if name not in config]
        if missing:
            raise refusal(f"Scheduler configuration lacks {missing}", sorted(config))
        if config.get("trained_betas") is not None:
            raise ValueError(
                "Scheduler configuration gives trained_betas; expected null and betas "
                f"by a beta_schedule of {BETA_SCHEDULES}."
            )
        # What else is left out means the same here.
        told = DIFFUSERS_KEYS.keys() & config.keys()
        return cls(**{DIFFUSERS_KEYS[key]: config[key] for key in told})

    @functools.cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """Share of the signal's variance left at each timestep, falling, in `[0, 1)`.

        It is read-only float64 `(num_train_steps,)`, and `0` only at the last timestep
        with `zero_terminal_snr`. Betas so small or so large that in float32 a timestep
        adds no noise, or no signal is left, are a `ValueError`.
        """
        start, end = self.beta_start, self.beta_end
        if self.beta_schedule == "scaled_linear":
            betas = np.linspace(start**0.5, end**0.5, self.num_train_steps) ** 2
        else:
            betas = np.linspace(start, end, self.num_train_steps)
        # Training and other samplers hold these in float32. Near timestep 0 that
        # rounding moves the noise level by 1e-5 of itself: their values, not better
        # ones, are what published models know.
        alphas = (1.0 - betas).astype("float32").astype("float64")
        alphas_cumprod = np.cumprod(alphas).astype("float32").astype("float64")
        falling = np.diff(alphas_cumprod, prepend=1.0, append=0.0) < 0
        if not falling.all():
            raise ValueError(
                "Expected betas by which the signal falls at every timestep without "
                f"vanishing in float32. Received: {self}"
            )
        if self.zero_terminal_snr:
            signal = np.sqrt(alphas_cumprod)
            shifted = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
            alphas_cumprod = shifted**2
        alphas_cumprod.flags.writeable = False
        return alphas_cumprod

    def noise_scale(self, timesteps: np.ndarray) -> np.ndarray:
        """Give the noise's share of the deviation, in `(0, 1]`, interpolated.

        It is `sqrt(1 - alphas_cumprod)`, or `sigma / sqrt(1 + sigma**2)` by the ratio
        `sigma` of noise to signal, at timesteps in `[0, num_train_steps)`, fractions
        too.

        Example:
        ```python
        NoiseSchedule().noise_scale(np.array([0, 500, 999]))  # 0.03, 0.85, 1.00
        ```
        """
        scales = np.sqrt(1.0 - self.alphas_cumprod)
        return np.interp(timesteps, np.arange(self.num_train_steps), scales)

    def add_noise(self, latents: Any, noise: Any, timesteps: Any) -> Any:
        """Give clean latents `(B, ...)` as they are at the timesteps, in float32.

        The noise is standard normal, of their shape; timesteps are ints `(B,)`.
        """
        latents = ops.cast(latents, "float32")
        noise = ops.cast(noise, "float32")
        signal_scale, noise_scale = self._scales(timesteps, len(latents.shape))
        return signal_scale * latents + noise_scale * noise

    def target(self, latents: Any, noise: Any, timesteps: Any) -> Any:
        """Give what the model is to predict, float32, from arguments of `add_noise`."""
        latents = ops.cast(latents, "float32")
        noise = ops.cast(noise, "float32")
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return latents
        signal_scale, noise_scale = self._scales(timesteps, len(latents.shape))
        return signal_scale * noise - noise_scale * latents

    def clean_and_noise(
        self, noisy: Any, prediction: Any, timesteps: Any
    ) -> tuple[Any, Any]:
        """Give the clean latents and the noise that a prediction says `noisy` is of.

        All are float32 `(B, ...)`; timesteps are ints `(B,)`. It undoes `add_noise`.
        """
        signal_scale, noise_scale = self._scales(timesteps, len(noisy.shape))
        if self.prediction_type == "v_prediction":
            clean = signal_scale * noisy - noise_scale * prediction
            return clean, noise_scale * noisy + signal_scale * prediction
        if self.prediction_type == "sample":
            return prediction, (noisy - signal_scale * prediction) / noise_scale
        return (noisy - noise_scale * prediction) / signal_scale, prediction

    def signal_to_noise(self, timesteps: Any) -> Any:
        """Give signal variance over noise variance, float32, from `1e3` to `0`."""
        ratio = self.alphas_cumprod / (1.0 - self.alphas_cumprod)
        return _look_up(ratio, timesteps)

    def min_snr_weights(self, timesteps: Any, gamma: float) -> Any:
        """Weigh squared errors by Min-SNR-gamma (Hang et al., 2023), where gamma is 5.

        The paper weighs squared errors of the *latents* by `min(SNR, gamma)`. A squared
        error of the noise is SNR times that of the latents, one of the velocity `SNR +
        1` times: so their weights are divided by SNR and by `SNR + 1`.
        """
        ratio = self.signal_to_noise(timesteps)
        clipped = ops.minimum(ratio, gamma)
        if self.prediction_type == "sample":
            return clipped
        if self.prediction_type == "v_prediction":
            return clipped / (ratio + 1.0)
        # As a minimum of quotients it is 1, not 0 / 0, where no signal is left.
        return ops.minimum(1.0, gamma / ops.maximum(ratio, 1e-30))

    def _scales(self, timesteps: Any, rank: int) -> tuple[Any, Any]:
        shape = (-1,) + (1,) * (rank - 1)
        signal_scale = _look_up(np.sqrt(self.alphas_cumprod), timesteps)
        noise_scale = _look_up(np.sqrt(1.0 - self.alphas_cumprod), timesteps)
        return ops.reshape(signal_scale, shape), ops.reshape(noise_scale, shape)


def _look_up(values: np.ndarray, timesteps: Any) -> Any:
    return ops.take(ops.convert_to_tensor(values, "float32"), timesteps, axis=0)
