"""UniPC."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_makeavid.schedulers.multistep import MultistepScheduler
from keras_makeavid.schedulers.noise_schedule import check_choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniPC(MultistepScheduler):
    """UniPC: predicts, then corrects by what the model says there, for no more passes.

    Zhao et al., arXiv 2302.04867, algorithms 5 to 8, on the denoised samples.

    Args:
        schedule: `NoiseSchedule` that the model was trained with; Stable Diffusion's
            by default.
        timestep_spacing: `"leading"`, `"linspace"` or `"trailing"`.
        steps_offset: Int, the lowest timestep of `"leading"`.
        karras_sigmas: As for `DPMSolverPlusPlus`.
        solver_order: Int, 1 to 3; the last steps are of lower order.
        final_sigmas_type: `"zero"` ends at no noise, `"sigma_min"` at timestep 0's.
        solver_type: `"bh1"` or `"bh2"`, the paper's B(h): `h` or `exp(h) - 1`.
        disable_corrector: Tuple of the steps whose result is not corrected.

    Raises:
        ValueError: If an argument is none of those.

    Example:
    ```python
    table = UniPC(solver_order=3).table(10)
    ```
    """

    solver_type: str = "bh2"
    disable_corrector: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("solver_type", self.solver_type, ("bh1", "bh2"))

    def _orders(self, num_steps: int) -> np.ndarray:
        return np.minimum(self.solver_order, np.arange(num_steps, 0, -1))

    def _weights(
        self, strides: np.ndarray, orders: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        predicted, corrected = np.zeros((2, len(strides), 4))
        for i, order in enumerate(orders):
            h = strides[i]
            # Where the denoised samples before this one lie, in units of the stride.
            nodes = [-strides[i - k : i].sum() / h for k in range(1, order)]
            predicted[i] = corrected[i] = self._step_weights(h, nodes)
            last = i + 1 == len(strides)
            if not last and h > 0 and i not in self.disable_corrector:
                corrected[i] = self._step_weights(h, [*nodes, 1.0])
        return predicted, corrected

    def _step_weights(self, h: float, nodes: list[float]) -> np.ndarray:
        weights = np.array([0.0, -np.expm1(-h), 0.0, 0.0])
        base = -h if self.solver_type == "bh1" else np.expm1(-h)
        for k, rho in enumerate(_slope_weights(h, nodes, base)):
            place = 0 if nodes[k] == 1.0 else k + 2
            weights[[place, 1]] += np.array([-1.0, 1.0]) * base * rho / nodes[k]
        return weights


def _slope_weights(h: float, nodes: list[float], base: float) -> np.ndarray:
    """Weights of the slopes to the nodes, exact for polynomials of their number."""
    if len(nodes) < 2:
        return np.full(len(nodes), 0.5)
    phi, factorial, moments = np.expm1(-h) / -h - 1.0, 1, []
    for k in range(len(nodes)):
        moments.append(phi * factorial / base)
        factorial *= k + 2
        phi = phi / -h - 1.0 / factorial
    return np.linalg.solve(np.vander(nodes, increasing=True).T, moments)
