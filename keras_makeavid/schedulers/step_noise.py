"""The fresh noise of a step, from the sample's own key, inside the compiled loop."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from keras_makeavid.tensor import Tensor

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def step_noise(keys: Any, number: Any, shape: tuple[int, ...]) -> Any:
    """Draw standard normal noise, each sample from its own key.

    A function of key, step and place alone: the same on every backend but for the
    rounding of `log` and `cos`, and for every batch. Threefry-2x32 (Salmon et al.,
    "Parallel random numbers: as easy as 1, 2, 3", 2011) and Box-Muller.

    Args:
        keys: Int32 tensor `(B, 2)`.
        number: Int32 scalar, number of the step; it may be a loop's traced counter.
        shape: Tuple `(B, ...)` of ints, the latents' shape.

    Returns:
        Float32 tensor `shape`.

    Example:
    ```python
    noise = step_noise(np.array([[1, 2], [3, 4]], "int32"), 0, (2, 8, 8, 4))
    noise.shape  # (2, 8, 8, 4)
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
