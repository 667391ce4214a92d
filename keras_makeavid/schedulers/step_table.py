"""A sampler's trajectory as a table of numbers, and the one step that all share."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, TypeAlias

import numpy as np

# A float32 array `(num_steps,)`. A number that is given stands for an array of it.
Column: TypeAlias = Any


class StepRow(NamedTuple):
    """The coefficients of one sampling step; each a scalar.

    Attributes:
        timestep: What the model is told; Euler's may lie between whole timesteps.
        input_scale: Factor of the sample on its way into the model.
        denoised_from_sample: `denoised` is this times the sample ...
        denoised_from_prediction: ... plus this times the model's prediction.
        next_from_sample: The next sample is this times the sample ...
        next_from_denoised: ... plus this times `denoised` ...
        next_from_previous_denoised: ... plus this times the step before's `denoised`
            ...
        next_from_noise: ... plus this times fresh noise.
    """

    timestep: Any
    input_scale: Any
    denoised_from_sample: Any
    denoised_from_prediction: Any
    next_from_sample: Any
    next_from_denoised: Any
    next_from_previous_denoised: Any
    next_from_noise: Any


@dataclasses.dataclass(frozen=True, eq=False)
class StepTable:
    """What a sampler does in each of its steps.

    Every sampler here is linear in the sample, the denoised sample, the step before's
    denoised sample and fresh noise, so this table is all that sets them apart. As one
    array it is an ordinary tensor argument: one compiled loop serves every scheduler.

    The arrays are float32 `(num_steps,)`, in sampling order; a number stands for an
    array of it. For their meaning see `StepRow`, whose order they have.

    Args:
        timesteps: Array, see `StepRow.timestep`.
        input_scale: Array or number.
        denoised_from_sample: Array or number.
        denoised_from_prediction: Array or number.
        next_from_sample: Array or number.
        next_from_denoised: Array or number.
        next_from_previous_denoised: Array or number, `0` in the first step.
        next_from_noise: Array or number.
        initial_sigma: Float, factor of the standard normal noise to start from.

    Example:
    ```python
    table = DPMSolverPlusPlus2M().table(20)
    sample = np.random.default_rng(0).normal(size=(1, 24, 64, 64, 4))
    sample = sample.astype("float32") * table.initial_sigma
    denoised = np.zeros_like(sample)
    for values in table.as_array():
        row = StepTable.row(values)
        prediction = model(sample * row.input_scale, row.timestep)
        sample, denoised = step(row, sample, prediction, denoised)
    ```
    """

    timesteps: Column
    input_scale: Column
    denoised_from_sample: Column
    denoised_from_prediction: Column
    next_from_sample: Column
    next_from_denoised: Column
    next_from_previous_denoised: Column
    next_from_noise: Column
    initial_sigma: float

    def __post_init__(self) -> None:
        shape = np.shape(self.timesteps)
        for field in dataclasses.fields(self)[:-1]:
            column = np.asarray(getattr(self, field.name), "float32")
            column = np.array(np.broadcast_to(column, shape))
            object.__setattr__(self, field.name, column)

    @property
    def needs_noise(self) -> bool:
        """Whether any step takes fresh noise."""
        return bool(np.any(self.next_from_noise))

    def as_array(self) -> np.ndarray:
        """Give the table as one tensor argument for a compiled loop.

        Returns:
            float32 array `(num_steps, 8)`; its slice `[i]` is step `i`, to be read
            with `StepTable.row`. `initial_sigma` is not in it.
        """
        columns = [getattr(self, f.name) for f in dataclasses.fields(self)[:-1]]
        return np.stack(columns, axis=-1)

    @staticmethod
    def row(array_slice: Any) -> StepRow:
        """Read one step out of the table's array.

        Args:
            array_slice: Array or tensor `(8,)` of any backend: `as_array()[i]`, where
                `i` may be the traced counter of a loop.

        Returns:
            A `StepRow` of scalars.
        """
        return StepRow(*(array_slice[i] for i in range(len(StepRow._fields))))


def step(
    row: StepRow,
    sample: Any,
    prediction: Any,
    previous_denoised: Any,
    noise: Any | None = None,
) -> tuple[Any, Any]:
    """Take one sampling step, whichever the sampler.

    Only operators are used: arrays and tensors of any backend will do, traced ones
    too. All of them are float32 and of the sample's shape.

    Args:
        row: `StepRow` of scalars.
        sample: Array `(B, ...)`, the latents at this step's noise level.
        prediction: Array, what the model made of `sample * row.input_scale` at
            `row.timestep`, after guidance.
        previous_denoised: Array, the second result of the step before; zeros in the
            first step.
        noise: Array, standard normal; may be left out if not `table.needs_noise`.

    Returns:
        Tuple `(next_sample, denoised)`: the latents at the next noise level, and the
        clean latents that this step expects in the end.

    Example:
    ```python
    table = DDIM().table(20)
    row = StepTable.row(table.as_array()[0])
    x = np.ones((1, 8, 8, 4), "float32")
    next_x, denoised = step(row, x, 0.5 * x, np.zeros_like(x))
    ```
    """
    denoised = (
        sample * row.denoised_from_sample + prediction * row.denoised_from_prediction
    )
    next_sample = (
        sample * row.next_from_sample
        + denoised * row.next_from_denoised
        + previous_denoised * row.next_from_previous_denoised
    )
    if noise is not None:
        next_sample = next_sample + noise * row.next_from_noise
    return next_sample, denoised
