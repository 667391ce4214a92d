"""LCM and TCD, for models distilled to few steps."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_makeavid.schedulers.scheduler import Scheduler, check_count
from keras_makeavid.schedulers.step_table import StepTable

# Scale of the data in the boundary condition of consistency models.
_SIGMA_DATA = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConsistencyScheduler(Scheduler):
    """A sampler whose timesteps are some of those that a distillation trained.

    Args:
        schedule: As for `Scheduler`.
        original_inference_steps: Int, number of the timesteps of the distillation.

    Raises:
        ValueError: If there are not as many timesteps.
    """

    original_inference_steps: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.schedule.num_train_steps
        check_count("original_inference_steps", self.original_inference_steps, 1, most)

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
        schedule: `NoiseSchedule` that the model was trained with; Stable Diffusion's
            by default.
        original_inference_steps: Int, number of the timesteps of the distillation,
            and the most steps there may be.
        timestep_scaling: Float, how soon the boundary condition at timestep 0 ends.

    Raises:
        ValueError: If there are not as many timesteps.

    Example:
    ```python
    LCM().table(4).timesteps  # 999, 759, 499, 259
    ```
    """

    timestep_scaling: float = 10.0

    def _table(self, num_steps: int, first: int) -> StepTable:
        timesteps = self._timesteps(num_steps)[first:]
        alphas = self.schedule.alphas_cumprod[timesteps]
        # The last step ends at the clean latents.
        next_alphas = np.append(alphas[1:], 1.0)
        scaled = timesteps * self.timestep_scaling
        distance = np.hypot(scaled, _SIGMA_DATA)
        return self._table_of_unit_variance(
            timesteps,
            np.sqrt(alphas),
            np.sqrt(1.0 - alphas),
            next_from_sample=np.sqrt(next_alphas) * (_SIGMA_DATA / distance) ** 2,
            next_from_denoised=np.sqrt(next_alphas) * scaled / distance,
            next_from_noise=np.sqrt(1.0 - next_alphas),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TCD(ConsistencyScheduler):
    """Strategic stochastic sampling of TCD (Zheng et al., arXiv 2402.19159, alg. 4).

    Each step goes below the next noise level, as far as `gamma` says, and fresh noise
    leads back up to it. It ends at the noise level of timestep 0.

    Args:
        schedule: `NoiseSchedule` that the model was trained with; Stable Diffusion's
            by default.
        original_inference_steps: As for `LCM`.
        gamma: Float in `[0, 1]`, `eta` of diffusers: `0` is deterministic, `1` goes to
            the clean latents in each step.

    Raises:
        ValueError: If `gamma` is outside of that, or there are not as many timesteps.

    Example:
    ```python
    table = TCD(gamma=0.5).table(4)
    ```
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
