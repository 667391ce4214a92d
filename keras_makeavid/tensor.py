"""The types of tensors and of their shapes."""

from typing import Any, TypeAlias

# What a tensor is depends on the backend, and on whether a graph is traced: an array
# of JAX, PyTorch or TensorFlow, a `keras.KerasTensor`, or a NumPy array.
Tensor: TypeAlias = Any
# A size is `None` where it is not known, or any.
Shape: TypeAlias = tuple[int | None, ...]
