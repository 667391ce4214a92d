"""A sampler's trajectory as a table of numbers; the step that all share, its noise."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from keras import ops

from keras_makeavid.tensor import Tensor

# A float32 array `(num_steps,)`. A number that is given stands for an array of it.
Column: TypeAlias = Any
# Of Threefry-2x32.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


class StepRow(NamedTuple):
    """The coefficients of one sampling step; each a scalar.

    Attributes:
        timestep: What the model is told; Euler's may lie between whole timesteps.
        input_scale: Factor of the sample on its way into the model.
        denoised_from_sample: `denoised` is this times the sample ...
        denoised_from_prediction: ... plus this times the model's prediction.
        next_from_sample: The next sample is this times the corrected sample ...
        next_from_denoised: ... plus this times `denoised` ...
        next_from_previous_denoised: ... plus this times the step before's `denoised`
            ...
        next_from_noise: ... plus this times fresh noise.
        corrected_from_denoised: The corrected sample is the next sample plus this
            times `denoised` ...
        corrected_from_previous_denoised: ... plus this times the step before's.
    """

    timestep: Any
    input_scale: Any
    denoised_from_sample: Any
    denoised_from_prediction: Any
    next_from_sample: Any
    next_from_denoised: Any
    next_from_previous_denoised: Any
    next_from_noise: Any
    corrected_from_denoised: Any
    corrected_from_previous_denoised: Any


class SamplerState(NamedTuple):
    """What a step takes over from the one before it; arrays of the sample's shape.

    Attributes:
        sample: Latents at this step's noise level: what the model is asked about.
        corrected: The same as far as earlier steps know, for UniPC; or the sample.
        previous_denoised: Clean latents that the step before expected.
    """

    sample: Any
    corrected: Any
    previous_denoised: Any

    @classmethod
    def start(cls, sample: Any) -> SamplerState:
        """Give the state before the first step, of noise times `initial_sigma`."""
        return cls(sample, sample, 0.0 * sample)


_COLUMNS = ("timesteps", *StepRow._fields[1:])


@dataclasses.dataclass(frozen=True, eq=False)
class StepTable:
    """What a sampler does in each of its steps.

    Every sampler here is linear in the sample, the denoised sample, that of the step
    before and fresh noise, so this table is all that sets them apart. As one array it
    is an ordinary tensor argument: one compiled loop serves every scheduler.

    The arrays are float32 `(num_steps,)`, in sampling order; a number stands for an
    array of it. For their meaning see `StepRow`, whose order they have. Besides there
    are:

    Args:
        initial_sigma: Float, factor of the standard normal noise to start from.
        start_from_latents: Float, of clean latents where those are started from ...
        start_from_noise: ... and of the noise that is added to them.

    Example:
    ```python
    table = DPMSolverPlusPlus().table(20)
    state = SamplerState.start(noise * table.initial_sigma)
    for values in table.as_array():
        row = StepTable.row(values)
        prediction = model(state.sample * row.input_scale, row.timestep)
        state = step(row, state, prediction)
    ```
    """

    timesteps: Column
    input_scale: Column
    denoised_from_sample: Column
    denoised_from_prediction: Column
    next_from_sample: Column
    next_from_denoised: Column
    initial_sigma: float
    start_from_latents: float = 1.0
    start_from_noise: float = 0.0
    next_from_previous_denoised: Column = 0.0
    next_from_noise: Column = 0.0
    corrected_from_denoised: Column = 0.0
    corrected_from_previous_denoised: Column = 0.0

    def __post_init__(self) -> None:
        shape = np.shape(self.timesteps)
        for name in _COLUMNS:
            column = np.asarray(getattr(self, name), "float32")
            object.__setattr__(self, name, np.array(np.broadcast_to(column, shape)))

    @property
    def needs_noise(self) -> bool:
        """Whether any step takes fresh noise."""
        return bool(np.any(self.next_from_noise))

    def as_array(self) -> np.ndarray:
        """Give the table of steps as one tensor, float32 `(num_steps, 10)`."""
        return np.stack([getattr(self, name) for name in _COLUMNS], axis=-1)

    def start(self, noise: Any, latents: Any | None = None) -> Any:
        """Make the first sample of standard normal noise and clean latents, if any."""
        if latents is None:
            return noise * self.initial_sigma
        return latents * self.start_from_latents + noise * self.start_from_noise

    @staticmethod
    def row(array_slice: Any) -> StepRow:
        """Read one step, `as_array()[i]` of any backend, where `i` may be traced."""
        return StepRow(*(array_slice[i] for i in range(len(StepRow._fields))))


def step(
    row: StepRow, state: SamplerState, prediction: Any, noise: Any | None = None
) -> SamplerState:
    """Take one sampling step, whichever the sampler, to the `SamplerState` after it.

    Only operators are used: arrays and tensors of any backend will do, traced ones too.
    All of them are float32 and of the sample's shape.

    Args:
        row: `StepRow` of scalars.
        state: `SamplerState`, the result of the step before.
        prediction: Array `(B, ...)`, what the model made of `state.sample *
            row.input_scale` at `row.timestep`, after guidance.
        noise: Array, standard normal; may be left out if not `table.needs_noise`.

    Example:
    ```python
    row = StepTable.row(DDIM().table(20).as_array()[0])
    x = np.ones((1, 8, 8, 4), "float32")
    state = step(row, SamplerState.start(x), 0.5 * x)
    state.sample.shape  # (1, 8, 8, 4)
    ```
    """
    sample, corrected, previous = state
    denoised = (
        sample * row.denoised_from_sample + prediction * row.denoised_from_prediction
    )
    next_sample = (
        corrected * row.next_from_sample
        + denoised * row.next_from_denoised
        + previous * row.next_from_previous_denoised
    )
    if noise is not None:
        next_sample = next_sample + noise * row.next_from_noise
    corrected = (
        next_sample
        + denoised * row.corrected_from_denoised
        + previous * row.corrected_from_previous_denoised
    )
    return SamplerState(next_sample, corrected, denoised)


def step_noise(keys: Any, number: Any, shape: tuple[int, ...]) -> Any:
    """Draw standard normal noise, float32 `shape`, each sample from its own key.

    A function of key, step and place alone: the same on every backend but for the
    rounding of `log` and `cos`, and for every batch. Threefry-2x32 (Salmon et al.,
    "Parallel random numbers: as easy as 1, 2, 3", 2011) and Box-Muller.

    Args:
        keys: Int32 tensor `(B, 2)`.
        number: Int32 scalar, number of the step; it may be a loop's traced counter.
        shape: Tuple `(B, ...)` of ints, the latents' shape.

    Example:
    ```python
    step_noise(np.array([[1, 2]], "int32"), 0, (1, 8, 8, 4)).shape  # (1, 8, 8, 4)
    ```
    """
    size = math.prod(shape[1:])
    place = ops.expand_dims(ops.arange((size + 1) // 2, dtype="int32"), 0)
    number = ops.zeros_like(place) + ops.cast(number, "int32")
    keys = ops.cast(keys, "int32")
    first, second = threefry(keys[:, :1], keys[:, 1:], place, number)
    # From above 0 to 1, and the angle from 0 to below a full turn.
    radius = ops.sqrt(-2.0 * ops.log((_upper_bits(first) + 1.0) * 2.0**-24))
    angle = _upper_bits(second) * (2.0 * math.pi * 2.0**-24)
    normal = ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)], -1)
    return ops.reshape(normal[:, :size], shape)


def threefry(
    key: Any, second_key: Any, counter: Any, second_counter: Any
) -> tuple[Tensor, Tensor]:
    """Scramble two 32-bit words by two of a key, in 20 rounds; int32 tensors."""
    keys = (key, second_key, ops.bitwise_xor(ops.bitwise_xor(key, second_key), _PARITY))
    x, y = counter + keys[0], second_counter + keys[1]
    for i in range(5):
        for bits in _ROTATIONS[i % 2]:
            x = x + y
            y = ops.bitwise_xor(_rotated(y, bits), x)
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + (i + 1)
    return x, y


def _rotated(x, bits):
    low = ops.bitwise_and(ops.right_shift(x, 32 - bits), (1 << bits) - 1)
    return ops.bitwise_or(ops.left_shift(x, bits), low)


def _upper_bits(x):
    return ops.cast(ops.bitwise_and(ops.right_shift(x, 8), 0xFFFFFF), "float32")
