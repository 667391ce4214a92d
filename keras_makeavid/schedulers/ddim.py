"""DDIM."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_makeavid.schedulers.scheduler import SpacedScheduler
from keras_makeavid.schedulers.step_table import StepTable


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIM(SpacedScheduler):
    """Denoising diffusion implicit models (Song et al., arXiv 2010.02502, eq. 12).

    Args:
        schedule: `NoiseSchedule` that the model was trained with; Stable Diffusion's
            by default.
        timestep_spacing: `"leading"`, `"linspace"` or `"trailing"`.
        steps_offset: Int, the lowest timestep of `"leading"`.
        eta: Float in `[0, 1]`, share of fresh noise: `0` is deterministic, `1` is
            ancestral sampling as in DDPM.
        set_alpha_to_one: Bool, end at no noise; as with Stable Diffusion it ends at
            the noise level of timestep 0 by default.

    Raises:
        ValueError: If `eta` or the spacing is outside of that.

    Example:
    ```python
    table = DDIM(eta=0.5).table(20)
    ```
    """

    timestep_spacing: str = "leading"
    eta: float = 0.0
    set_alpha_to_one: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta must be from 0 to 1. Received: {self.eta!r}")

    def _table(self, num_steps: int, first: int) -> StepTable:
        timesteps = np.round(self._spaced_timesteps(num_steps)).astype(int)
        timesteps = timesteps[first:]
        next_timesteps = timesteps - self.schedule.num_train_steps // num_steps
        alphas_cumprod = self.schedule.alphas_cumprod
        final = 1.0 if self.set_alpha_to_one else alphas_cumprod[0]
        alphas = alphas_cumprod[timesteps]
        next_alphas = np.where(
            next_timesteps < 0, final, alphas_cumprod[np.maximum(next_timesteps, 0)]
        )
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
