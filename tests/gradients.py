"""Values and gradients of a function of variables, on any backend."""

import keras
import numpy as np
from keras import ops


def value_and_gradients(function, variables, upstream=np.ones):
    """`function()`, which reads `variables`, and their gradients, as numpy arrays.

    Args:
        function: takes nothing and returns a tensor.
        variables: list of `keras.Variable`.
        upstream: makes the gradient of the output of a shape.
    """
    backend = keras.config.backend()
    compute = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}[backend]
    value, gradients = compute(
        function,
        variables,
        lambda y: ops.convert_to_tensor(upstream(tuple(y.shape)), "float32"),
    )
    return keras.tree.map_structure(ops.convert_to_numpy, (value, list(gradients)))


def _jax(function, variables, upstream):
    import jax

    def stateless(values):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return function()

    @jax.jit
    def program(values):
        value, backward = jax.vjp(stateless, values)
        return value, *backward(upstream(value))

    return program([v.value for v in variables])


def _tensorflow(function, variables, upstream):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = function()
    values = [v.value for v in variables]
    return value, tape.gradient(value, values, output_gradients=upstream(value))


def _torch(function, variables, upstream):
    import torch

    value = function()
    values = [v.value for v in variables]
    gradients = torch.autograd.grad(value, values, grad_outputs=upstream(value))
    return value.detach(), gradients
