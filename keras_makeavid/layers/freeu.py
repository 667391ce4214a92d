"""FreeU: what the up path takes from below and from beside, weighed anew."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_makeavid.tensor import Tensor


def joined(x: Tensor, skip: Tensor, factors: tuple[Any, Any] | None = None) -> Tensor:
    """Concatenate the features `(..., H, W, C)` of the up path and of a skip.

    With factors `(b, s)`, half of the channels of `x` are multiplied by b before, and
    the lowest frequencies of `skip` by s (Si et al., arXiv 2309.11497, in the form of
    diffusers).
    """
    if factors is not None:
        backbone, low = factors
        is_first_half = np.arange(x.shape[-1]) < x.shape[-1] // 2
        x = x * ops.cast(ops.where(is_first_half, backbone, 1.0), x.dtype)
        precise = ops.cast(skip, "float32")
        skip = ops.cast(precise + (low - 1.0) * _lowest(precise), skip.dtype)
    return ops.concatenate([x, skip], axis=-1)


def _lowest(x):
    """The part of frequencies 0 and -1 in height and width, as the FFT counts them.

    These are sums of a few waves: no FFT is needed, which TPUs do slowly.
    """
    height, width = x.shape[-3:-1]
    # A side of one pixel has but one frequency.
    rows, columns = (sorted({0, -1 % size}) for size in (height, width))
    places = np.mgrid[:height, :width].reshape(2, -1)
    phases = [
        2 * np.pi * (row * places[0] / height + column * places[1] / width)
        for row in rows
        for column in columns
    ]
    waves = np.stack([wave(phase) for phase in phases for wave in (np.cos, np.sin)])
    waves = ops.convert_to_tensor(waves.reshape(-1, height, width), "float32")
    sums = ops.einsum("khw,...hwc->...kc", waves, x)
    return ops.einsum("khw,...kc->...hwc", waves, sums) / (height * width)
