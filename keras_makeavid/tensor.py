"""The type of tensors."""

from typing import Any, TypeAlias

# What a tensor is depends on the backend, and on whether a graph is traced: an array
# of JAX, PyTorch or TensorFlow, a `keras.KerasTensor`, or a NumPy array.
Tensor: TypeAlias = Any
