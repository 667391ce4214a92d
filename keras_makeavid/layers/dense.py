"""A dense layer that adds its bias inside the matrix product."""

from __future__ import annotations

import keras
from keras import ops

from keras_makeavid.layers.int8 import Int8Kernel
from keras_makeavid.layers.operations.dense import dense
from keras_makeavid.tensor import Tensor


@keras.saving.register_keras_serializable(package="keras_makeavid")
class Dense(Int8Kernel, keras.layers.Dense):
    """`keras.layers.Dense` with the bias as a part of the product.

    In int8 only its kernel is rounded, where Keras's rounds its inputs too.
    """

    @property
    def kernel(self) -> Tensor:
        if self.quantization_mode is None:
            # With adapters, if there are any.
            return super(Int8Kernel, self).kernel
        kernel = super().kernel
        if self.lora_enabled:
            adapter = ops.matmul(self.lora_kernel_a, self.lora_kernel_b)
            adapter = adapter * (self.lora_alpha / self.lora_rank)
            kernel = ops.cast(ops.add(kernel, adapter), self.compute_dtype)
        return kernel

    def call(self, inputs, training=None) -> Tensor:
        """Transform `(..., C)` to `(..., units)`."""
        return self.activation(dense(inputs, self.kernel, self.bias))

    def load_own_variables(self, store) -> None:
        super().load_own_variables(self._as_kept(store))
