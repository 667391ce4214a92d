"""What the tests of the operations share."""

import keras
import numpy as np
import torch
from gradients import value_and_gradients

BACKEND = keras.config.backend()


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def assert_agrees(function, reference, *arrays, atol=2e-5):
    """Values and all gradients of `function` are those of torch's `reference`."""
    tensors = [torch.from_numpy(array).requires_grad_() for array in arrays]
    expected = reference(*tensors)
    upstream = torch.from_numpy(normal(*expected.shape, seed=9))
    expected_gradients = torch.autograd.grad(expected, tensors, upstream)

    variables = [keras.Variable(array) for array in arrays]
    outputs, gradients = value_and_gradients(
        lambda: function(*(v.value for v in variables)),
        variables,
        upstream=lambda shape: normal(*shape, seed=9),
    )
    np.testing.assert_allclose(outputs, expected.detach().numpy(), atol=atol, rtol=0)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        expected_gradient = expected_gradient.numpy()
        largest = max(1, np.abs(expected_gradient).max())
        np.testing.assert_allclose(
            gradient / largest, expected_gradient / largest, atol=atol, rtol=0
        )


def forms(module, name):
    """The public operation, and its portable form where the backend has its own."""
    names = [name, f"_{name}_portable"] if BACKEND == "torch" else [name]
    return [getattr(module, name) for name in names]
