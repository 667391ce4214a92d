"""Kernels in int8 as floats."""

from __future__ import annotations

from keras import ops

from keras_makeavid.tensor import Tensor


def widened(kernel: Tensor, scale: Tensor, dtype: str) -> Tensor:
    """Divide an int8 kernel `(..., C_out)` by its scales `(C_out,)`, in float32."""
    kernel, scale = map(ops.convert_to_tensor, (kernel, scale))
    return ops.cast(ops.cast(kernel, "float32") / scale, dtype)
