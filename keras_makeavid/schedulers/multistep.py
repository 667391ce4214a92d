"""Solvers that look back at earlier steps: DPM-Solver++ and UniPC."""

import abc
import dataclasses

import numpy as np

from keras_makeavid.schedulers import scheduler
from keras_makeavid.schedulers.step_table import StepTable
from keras_makeavid.validation import check_choice

# With fewer steps than these the last ones are of lower order, if so asked.
_FEW_STEPS = 15


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultistepScheduler(scheduler.SigmaScheduler):
    """A solver in `-log(sigma)`; its steps use `solver_order` denoised samples."""

    solver_order: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        scheduler.check_count("solver_order", self.solver_order, 1, 3)

    def _table(self, num_steps: int, first: int) -> StepTable:
        timesteps, sigmas = (x[first:] for x in self._noise_levels(num_steps))
        signal = scheduler.signal_scale(sigmas)
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
            sigmas = scheduler.karras_spacing(
                train_sigmas[-1], train_sigmas[0], num_steps
            )
            timesteps = np.round(scheduler.timesteps_of_sigmas(sigmas, train_sigmas))
        else:
            # "leading" and "linspace" count the clean end as a point; "trailing" has
            # it one stride below the last.
            num_points = num_steps + (self.timestep_spacing != "trailing")
            timesteps = self._spaced_timesteps(num_points)[:num_steps]
            timesteps = np.round(timesteps).astype(int)
            sigmas = train_sigmas[timesteps]
        return timesteps, self._with_final_sigma(sigmas, train_sigmas)


def _attainable(orders: np.ndarray, strides: np.ndarray) -> np.ndarray:
    """Lower orders to the steps there are to look back at; one at rest has no slope."""
    attainable, steps_behind = np.ones_like(orders), 0
    for i, stride in enumerate(strides):
        if stride > 0:
            attainable[i] = min(orders[i], steps_behind + 1)
        steps_behind = steps_behind + 1 if stride > 0 else 0
    return attainable


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolverPlusPlus(MultistepScheduler):
    """DPM-Solver++, multistep (Lu et al., arXiv 2211.01095, algorithm 2).

    The second order is "2M"; the first is DDIM. The first steps are of the order that
    there is enough to look back at for, the last one is of first order where it ends at
    no noise. Further arguments are those of `DDIM`.

    Args:
        karras_sigmas: Bool, space the noise levels as arXiv 2206.00364 does (eq. 5);
            the timesteps are then the nearest ones, whatever `timestep_spacing` is.
        solver_order: Int, 1 to 3.
        final_sigmas_type: `"zero"` ends at no noise, `"sigma_min"` at timestep 0's.
        solver_type: `"midpoint"` or `"heun"`, form of the second order.
        lower_order_final: Bool, the last two of fewer than 15 are of orders 2 and 1.
        euler_at_final: Bool, the last step is always of first order.
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

    def _weights(self, strides, orders):
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniPC(MultistepScheduler):
    """UniPC: predicts, then corrects by what the model says there, for no more passes.

    Zhao et al., arXiv 2302.04867, algorithms 5 to 8, on the denoised samples. Further
    arguments are those of `DPMSolverPlusPlus`.

    Args:
        solver_order: Int, 1 to 3; the last steps are of lower order.
        solver_type: `"bh1"` or `"bh2"`, the paper's B(h): `h` or `exp(h) - 1`.
        disable_corrector: Tuple of the steps whose result is not corrected.
    """

    solver_type: str = "bh2"
    disable_corrector: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("solver_type", self.solver_type, ("bh1", "bh2"))

    def _orders(self, num_steps: int) -> np.ndarray:
        return np.minimum(self.solver_order, np.arange(num_steps, 0, -1))

    def _weights(self, strides, orders):
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
