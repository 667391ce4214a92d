"""DPM-Solver++."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_makeavid.schedulers.multistep import MultistepScheduler
from keras_makeavid.schedulers.noise_schedule import check_choice

# With fewer steps than these the last ones are of lower order, if so asked.
_FEW_STEPS = 15


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolverPlusPlus(MultistepScheduler):
    """DPM-Solver++, multistep (Lu et al., arXiv 2211.01095, algorithm 2).

    The second order is "2M"; the first is DDIM. The first steps are of the order that
    there is enough to look back at for, the last one is of first order where it ends
    at no noise.

    Args:
        schedule: `NoiseSchedule` that the model was trained with; Stable Diffusion's
            by default.
        timestep_spacing: `"leading"`, `"linspace"` or `"trailing"`.
        steps_offset: Int, the lowest timestep of `"leading"`.
        karras_sigmas: Bool, space the noise levels as arXiv 2206.00364 does; the
            timesteps are then the nearest whole ones and `timestep_spacing` has no
            part.
        solver_order: Int, 1 to 3.
        final_sigmas_type: `"zero"` ends at no noise, `"sigma_min"` at timestep 0's.
        solver_type: `"midpoint"` or `"heun"`, form of the second order.
        lower_order_final: Bool, with fewer than 15 steps the last is of first order
            and the one before it of second.
        euler_at_final: Bool, the last step is always of first order.

    Raises:
        ValueError: If an argument is none of those.

    Example:
    ```python
    table = DPMSolverPlusPlus(karras_sigmas=True).table(20)
    ```
    """

    solver_type: str = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("solver_type", self.solver_type, ("midpoint", "heun"))

    def _orders(self, num_steps: int) -> np.ndarray:
        orders = np.full(num_steps, self.solver_order)
        few = self.lower_order_final and num_steps < _FEW_STEPS
        if few:
            orders[-2:] = np.minimum(orders[-2:], 2)
        if few or self.euler_at_final or self.final_sigmas_type == "zero":
            orders[-1] = 1
        return orders

    def _weights(
        self, strides: np.ndarray, orders: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        weights = np.zeros((len(strides), 4))
        weights[:, 1] = first = -np.expm1(-strides)
        for i in np.flatnonzero(orders > 1):
            h, stride = strides[i], strides[i - 1]
            # `first`, `of_slope` and `of_curvature` are integrals of exp times 1, the
            # distance and its square.
            slope = np.array([0.0, 1.0, -1.0, 0.0]) * h / stride
            of_slope = 1.0 - first[i] / h
            if orders[i] == 2:
                midpoint = self.solver_type == "midpoint"
                weights[i] += (0.5 * first[i] if midpoint else of_slope) * slope
                continue
            earlier_slope = np.array([0.0, 0.0, 1.0, -1.0]) * h / strides[i - 2]
            curvature = (slope - earlier_slope) * h / (stride + strides[i - 2])
            of_curvature = 0.5 - (h - first[i]) / h**2
            weights[i] += of_slope * (slope + curvature * stride / h)
            weights[i] += of_curvature * curvature
        return weights, weights
