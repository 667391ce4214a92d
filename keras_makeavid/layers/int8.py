"""Kernels in int8, with a scale for each output channel, widened where they are used.

Adapters (LoRA) are added to a kernel of either form. As in Keras, what is kept is
`round(kernel * scale)`, the scale being 127 over the largest absolute value of the
channel. Inputs, and so the arithmetic, stay as they are.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.layers.operations.products import kernel_initializer, widened
from keras_makeavid.tensor import Tensor

MODE = "int8"

# Convolutions that carry the whole signal, with no other way around them, and the
# transformers' entry and exit. They are 14 % of the full-size UNet, and two thirds of
# the squared error that rounding them would make on the goldens.
# "conv" is that of the samplers.
EXACT = {"conv", "conv_in", "conv_out", "conv_shortcut", "proj_in", "proj_out"}


class Int8KernelPolicy(keras.dtype_policies.DTypePolicy):
    """A dtype policy of a composite layer whose dense and convolution layers are int8.

    Keras refuses its own `int8_from_float32` for a layer without a kernel.
    """


def network_policy(dtype: Any) -> keras.dtype_policies.DTypePolicy:
    """The policy of a composite layer for a dtype or policy that a user asks for."""
    policy = keras.dtype_policies.get(dtype)
    if policy.quantization_mode is None:
        return policy
    return Int8KernelPolicy(float_policy(policy))


def convolution_policy(name: str | None, dtype: Any) -> Any:
    """The dtype of a convolution of this name in a layer of this dtype."""
    if name in EXACT and isinstance(dtype, Int8KernelPolicy):
        return float_policy(dtype)
    return dtype


def float_policy(policy: keras.dtype_policies.DTypePolicy) -> str:
    """The name of the policy that an `int8_from_...` is of."""
    name = policy.name
    if policy.quantization_mode not in (None, MODE):
        raise ValueError(f"Weights may be quantized to int8 only. Received: {name!r}")
    return name.removeprefix(f"{MODE}_from_")


def int8_policy(policy: keras.dtype_policies.DTypePolicy) -> keras.DTypePolicy:
    """Keras's int8 policy on top of a policy."""
    return keras.dtype_policies.QuantizedDTypePolicy(MODE, float_policy(policy))


class Int8Kernel(keras.layers.Layer):
    """What a layer with a kernel `(..., C_in, C_out)` needs to keep it in int8.

    With an adapter its kernel is the sum of both.

    It is a base before another layer, which is in int8 by `"int8_from_float32"` or by
    `quantize("int8")`. Weights of either form can be loaded into either.
    """

    dtype_policy: Any
    lora_enabled: bool = False

    def __init__(self, *args: Any, dtype: Any = None, **kwargs: Any):
        if isinstance(dtype, Int8KernelPolicy):
            dtype = int8_policy(dtype)
        super().__init__(*args, dtype=dtype, **kwargs)

    @property
    def kernel(self) -> Tensor:
        """The kernel: a variable, or what one in int8 stands for, and its adapter."""
        kernel = self._kernel
        if self.quantization_mode is not None:
            kernel = widened(kernel, self.kernel_scale, self.compute_dtype)
        if not self.lora_enabled:
            return kernel
        adapter = ops.matmul(self.lora_kernel_a, self.lora_kernel_b)
        return ops.add(kernel, adapter * (self.lora_alpha / self.lora_rank))

    def quantized_build(self, kernel_shape, mode: str, config: Any = None) -> None:
        """Make the int8 kernel and its scales."""
        zeros = kernel_initializer("zeros")
        self._kernel = self.add_weight(
            kernel_shape, zeros, "int8", trainable=False, name="kernel"
        )
        # In half precision it would be as wrong as the kernel.
        how = {"autocast": False, "trainable": False, "name": "kernel_scale"}
        self.kernel_scale = self.add_weight(
            (kernel_shape[-1],), "ones", "float32", **how
        )
        self._is_quantized = True

    def quantize(
        self, mode: str = MODE, type_check: bool = True, config: Any = None
    ) -> None:
        policy = int8_policy(self.dtype_policy)
        if mode != MODE:
            expected = f"{type(self).__name__} can be quantized to int8 only"
            raise NotImplementedError(f"{expected}. Received: {mode}")
        kernel, scale = rounded(ops.convert_to_numpy(self._kernel))
        # Keras's `del` would collect garbage for each layer.
        self._untrack_variable(self._kernel)
        self.quantized_build(kernel.shape, mode)
        self._kernel.assign(kernel)
        self.kernel_scale.assign(scale)
        self.dtype_policy = policy

    def _int8_call(self, *args, **kwargs):
        return self.call(*args, **kwargs)

    def _as_kept(self, store) -> dict[str, Any]:
        """Kernel, bias and scale of a file, the kernel as it is kept here."""
        values = [store[str(place)] for place in range(len(store.keys()))]
        if values:
            is_int8 = str(values[0].dtype) == MODE
            if is_int8 and self.quantization_mode is None:
                values[0] = values[0] / np.asarray(values.pop())
            elif not is_int8 and self.quantization_mode is not None:
                values[0], scale = rounded(values[0])
                values.append(scale)
        return {str(place): value for place, value in enumerate(values)}


def rounded(kernel: Any) -> tuple[np.ndarray, np.ndarray]:
    """The int8 kernel, and its scales `(C_out,)`, float32."""
    kernel = np.asarray(kernel).astype("float32")
    rounded, scale = keras.quantizers.abs_max_quantize(
        kernel, axis=tuple(range(kernel.ndim - 1)), to_numpy=True
    )
    return ops.convert_to_numpy(rounded), ops.convert_to_numpy(scale).reshape(-1)
