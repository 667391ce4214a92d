"""SiLU."""

from __future__ import annotations

import keras
from keras import ops

from keras_makeavid.tensor import Tensor


def silu(x: Tensor) -> Tensor:
    """Apply SiLU, in float32 whatever the dtype: half precision is rounded once."""
    if keras.config.backend() == "torch":
        # Its own does so, without a float32 copy.
        return ops.silu(x)
    return _silu_portable(x)


def _silu_portable(x):
    return ops.cast(ops.silu(ops.cast(x, "float32")), x.dtype)
