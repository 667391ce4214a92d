"""Solvers that look back at the step before: DPM-Solver++ and UniPC."""

import dataclasses

import numpy as np

from keras_makeavid.schedulers import scheduler
from keras_makeavid.schedulers.step_table import StepTable
from keras_makeavid.validation import refusal


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolverPlusPlus(scheduler.SigmaScheduler):
    """DPM-Solver++ 2M (Lu et al., arXiv 2211.01095, algorithm 2), in `-log(sigma)`.

    The first step has nothing to look back at, and the last one ends at no noise: these
    are of first order, which is DDIM. Further arguments are those of `DDIM`.

    Args:
        karras_sigmas: Bool, space the noise levels as arXiv 2206.00364 does (eq. 5);
            the timesteps are then the nearest ones, whatever `timestep_spacing` is.
    """

    karras_sigmas: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.karras_sigmas, bool):
            raise refusal("karras_sigmas must be a bool", self.karras_sigmas)

    def _table(self, num_steps: int, first: int) -> StepTable:
        timesteps, sigmas = (x[first:] for x in self._noise_levels(num_steps))
        signal = scheduler.signal_scale(sigmas)
        noise = sigmas * signal
        with np.errstate(divide="ignore"):
            strides = -np.diff(np.log(sigmas))
        # Of the denoised sample that comes next, this one and the one before it.
        predicted, corrected = (signal[1:] * w for w in self._weights(strides))
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
            corrected_from_denoised=correction[1],
            corrected_from_previous_denoised=correction[2],
        )

    def _weights(self, strides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights `(3, num_steps)` of denoised samples, predicting and correcting.

        They are those of the next denoised sample, this one and the one before it.
        """
        first_order, nodes = -np.expm1(-strides), _nodes(strides)
        slope = 0.5 * first_order / nodes
        weights = np.stack([np.zeros_like(slope), first_order - slope, slope])
        return weights, weights

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
        return timesteps, np.append(sigmas, 0.0)


def _nodes(strides: np.ndarray) -> np.ndarray:
    """Where the denoised sample before a step's lies, in units of its stride.

    It is -inf where there is none to use: in the first step and in the last, and beside
    one that does not move.
    """
    nodes = np.full(len(strides), -np.inf)
    before, own = strides[:-2], strides[1:-1]
    second_order = (before > 0) & (own > 0)
    np.divide(-before, own, out=nodes[1:-1], where=second_order)
    return nodes


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniPC(DPMSolverPlusPlus):
    """UniPC: predicts, then corrects by what the model says there, for no more passes.

    Zhao et al., arXiv 2302.04867, algorithms 5 to 8, on the denoised samples, of second
    order with `B(h) = exp(h) - 1`: then it predicts as DPM-Solver++ 2M does. Arguments
    are those of `DPMSolverPlusPlus`.
    """

    def _weights(self, strides):
        predicted, _ = super()._weights(strides)
        # The last result is not corrected, nor one of a step that does not move.
        moving = np.flatnonzero(strides[:-1] > 0)
        h, node = strides[moving], _nodes(strides)[moving]
        first = -np.expm1(-h)
        # Weights of the slopes to both sides, exact for parabolas; of one alone, half.
        moment = 1.0 / first - 1.0 / h
        behind = (moment - 1.0 / first + 2.0 * moment / h) / (1.0 - node)
        ahead = np.where(np.isinf(node), 0.5, moment - behind)
        following, before = first * ahead, first * behind / node
        corrected = predicted.copy()
        corrected[:, moving] = following, first - following - before, before
        return predicted, corrected
