"""Samplers that look at one step alone: DDIM, Euler's method, LCM and TCD."""

import dataclasses

import numpy as np

from keras_makeavid.schedulers import scheduler
from keras_makeavid.schedulers.step_table import StepTable

# Of the boundary condition of consistency models: scale of the data, and of timesteps.
SIGMA_DATA, TIMESTEP_SCALING = 0.5, 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIM(scheduler.SpacedScheduler):
    """Denoising diffusion implicit models (Song et al., arXiv 2010.02502, eq. 12).

    As in Stable Diffusion, it ends at the noise level of timestep 0.

    Args:
        schedule: `NoiseSchedule` of the training; Stable Diffusion's by default.
        timestep_spacing: `"leading"`, `"linspace"` or `"trailing"`.
        steps_offset: Int, the lowest timestep of `"leading"`.
        eta: Float in `[0, 1]`, share of fresh noise; `1` is ancestral, as DDPM.
    """

    timestep_spacing: str = "leading"
    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta must be from 0 to 1. Received: {self.eta!r}")

    def _table(self, num_steps: int, first: int) -> StepTable:
        timesteps = np.round(self._spaced_timesteps(num_steps)).astype(int)
        timesteps = timesteps[first:]
        next_timesteps = timesteps - self.schedule.num_train_steps // num_steps
        alphas_cumprod = self.schedule.alphas_cumprod
        alphas = alphas_cumprod[timesteps]
        next_alphas = alphas_cumprod[np.maximum(next_timesteps, 0)]
        variance = (1 - next_alphas) / (1 - alphas) * (1 - alphas / next_alphas)
        fresh_variance = self.eta**2 * variance
        signal, noise = np.sqrt(alphas), np.sqrt(1 - alphas)
        kept = np.sqrt(1 - next_alphas - fresh_variance) / noise
        return self._table_of_unit_variance(
            timesteps,
            signal,
            noise,
            next_from_sample=kept,
            next_from_denoised=np.sqrt(next_alphas) - kept * signal,
            next_from_noise=np.sqrt(fresh_variance),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler(scheduler.SigmaScheduler):
    """Euler's method on the probability flow (Karras et al., arXiv 2206.00364).

    Here the sample is `latents + sigma * noise`, so its scale grows with `sigma`, up to
    14.6 with Stable Diffusion's schedule. `input_scale` undoes that for the model.

    Arguments are as for `DDIM`. With `"linspace"` timesteps may be fractions, and a
    single step is taken at timestep 0, as in diffusers.
    """

    def _table(self, num_steps: int, first: int) -> StepTable:
        timesteps, train_sigmas = (
            self._spaced_timesteps(num_steps),
            self._train_sigmas(),
        )
        timesteps = timesteps[first:]
        sigmas = np.interp(timesteps, np.arange(len(train_sigmas)), train_sigmas)
        next_sigmas = np.append(sigmas[1:], 0.0)
        signal = scheduler.signal_scale(sigmas)
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

    def _initial_sigma(self, sigma_max: float) -> float:
        # "leading" starts where some signal is left, and makes room for it.
        if self.timestep_spacing == "leading":
            return float(np.sqrt(sigma_max**2 + 1.0))
        return float(sigma_max)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EulerAncestral(Euler):
    """Euler's method with fresh noise in each step (as k-diffusion has it).

    A step goes below the next noise level, and fresh noise leads back up to it: as much
    as ancestral sampling adds (Song et al., arXiv 2011.13456, appendix F).
    """

    def _shares(self, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray | float]:
        return ratio**2, np.sqrt(1.0 - ratio**2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConsistencyScheduler(scheduler.Scheduler):
    """A sampler whose timesteps are some of those that a distillation trained."""

    original_inference_steps: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.schedule.num_train_steps
        scheduler.check_count(
            "original_inference_steps", self.original_inference_steps, 1, most
        )

    def _most_steps(self) -> int:
        return self.original_inference_steps

    def _timesteps(self, num_steps: int) -> np.ndarray:
        most = self.original_inference_steps
        skipped = np.floor(np.linspace(0, most, num_steps, endpoint=False)).astype(int)
        return (most - skipped) * (self.schedule.num_train_steps // most) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LCM(ConsistencyScheduler):
    """Multistep sampling of latent consistency models (Luo et al., arXiv 2310.04378).

    Each step jumps to the clean latents and noises them anew: for LCM-LoRA and
    AnimateLCM, 4 to 8 steps, guidance 1 to 2.

    Args:
        schedule: `NoiseSchedule` of the training; Stable Diffusion's by default.
        original_inference_steps: Int, timesteps of the distillation: most there may be.

    Example:
    ```python
    LCM().table(4).timesteps  # 999, 759, 499, 259
    ```
    """

    def _table(self, num_steps: int, first: int) -> StepTable:
        timesteps = self._timesteps(num_steps)[first:]
        alphas = self.schedule.alphas_cumprod[timesteps]
        # The last step ends at the clean latents.
        next_alphas = np.append(alphas[1:], 1.0)
        scaled = timesteps * TIMESTEP_SCALING
        distance = np.hypot(scaled, SIGMA_DATA)
        return self._table_of_unit_variance(
            timesteps,
            np.sqrt(alphas),
            np.sqrt(1.0 - alphas),
            next_from_sample=np.sqrt(next_alphas) * (SIGMA_DATA / distance) ** 2,
            next_from_denoised=np.sqrt(next_alphas) * scaled / distance,
            next_from_noise=np.sqrt(1.0 - next_alphas),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TCD(ConsistencyScheduler):
    """Strategic stochastic sampling of TCD (Zheng et al., arXiv 2402.19159, alg. 4).

    Each step goes below the next noise level, as far as `gamma` says, and fresh noise
    leads back up to it. It ends at timestep 0's level. See `LCM` for other arguments.

    Args:
        gamma: Float in `[0, 1]`, `eta` of diffusers: `0` is deterministic, `1` goes to
            the clean latents in each step.
    """

    gamma: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma must be from 0 to 1. Received: {self.gamma!r}")

    def _table(self, num_steps: int, first: int) -> StepTable:
        timesteps = self._timesteps(num_steps)[first:]
        next_timesteps = np.append(timesteps[1:], 0)
        # Rounding to float32 decides which whole timestep a product falls to.
        low = np.float32(1.0 - self.gamma) * next_timesteps.astype("float32")
        alphas, next_alphas, low_alphas = (
            self.schedule.alphas_cumprod[t]
            for t in (timesteps, next_timesteps, np.floor(low).astype(int))
        )
        signal, noise = np.sqrt(alphas), np.sqrt(1.0 - alphas)
        raised = next_alphas / low_alphas
        kept = np.sqrt(raised * (1.0 - low_alphas)) / noise
        return self._table_of_unit_variance(
            timesteps,
            signal,
            noise,
            next_from_sample=kept,
            next_from_denoised=np.sqrt(next_alphas) - kept * signal,
            next_from_noise=np.sqrt(1.0 - raised),
        )
