"""Each form of the operations against torch: values, gradients, half precision."""

import keras
import numpy as np
import pytest
import torch
from keras import ops
from operation_forms import BACKEND, assert_agrees, forms, normal

from keras_makeavid.layers.operations import activations as module


@pytest.mark.parametrize("approximate", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_gated_gelu_is_that_of_float32_rounded_once(dtype, approximate):
    value, gate = (ops.cast(normal(1000, seed=s), dtype) for s in (0, 1))
    exact_value, exact_gate = (
        torch.from_numpy(ops.convert_to_numpy(ops.cast(x, "float32"))).double()
        for x in (value, gate)
    )
    form = "tanh" if approximate else "none"
    expected = exact_value * torch.nn.functional.gelu(exact_gate, approximate=form)
    inputs = ops.concatenate([value, gate], axis=-1)
    outputs = module.gated_gelu(inputs, approximate)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    step = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2e-6}[dtype]
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(outputs, "float32")),
        expected,
        rtol=step,
        atol=2e-6,
    )


@pytest.mark.parametrize("gated_gelu", forms(module, "gated_gelu"))
@pytest.mark.parametrize("approximate", [True, False])
@pytest.mark.parametrize("shape", [(7, 6), (2, 3, 5, 6)])
def test_gated_gelu_agrees_with_torch(monkeypatch, gated_gelu, shape, approximate):
    # Runs of 4 tokens, which do not come out even.
    monkeypatch.setattr(module, "_TORCH_GATED_AT_ONCE", 4 * 6)
    form = "tanh" if approximate else "none"

    def reference(inputs):
        value, gate = inputs.chunk(2, dim=-1)
        return value * torch.nn.functional.gelu(gate, approximate=form)

    assert_agrees(lambda x: gated_gelu(x, approximate), reference, normal(*shape))


@pytest.mark.skipif(BACKEND != "torch", reason="that of torch, run by run")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_of_gated_gelu_are_rounded_once(dtype):
    dtype = getattr(torch, dtype)
    inputs = torch.from_numpy(normal(50, 6)).to(dtype).requires_grad_()
    upstream = torch.from_numpy(normal(50, 3, seed=1)).to(dtype)
    gradient = torch.autograd.grad(module.gated_gelu(inputs, False), inputs, upstream)
    exact = inputs.detach().double().requires_grad_()
    value, gate = exact.chunk(2, dim=-1)
    outputs = value * torch.nn.functional.gelu(gate)
    expected = torch.autograd.grad(outputs, exact, upstream.double())[0]
    step = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(gradient[0].double(), expected, rtol=step, atol=2e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("silu", forms(module, "silu"))
def test_silu_is_that_of_float32_rounded_once(silu, dtype):
    x = ops.cast(3 * normal(1000), dtype)
    exact = torch.from_numpy(ops.convert_to_numpy(ops.cast(x, "float32"))).double()
    expected = exact * torch.sigmoid(exact)
    outputs = silu(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    step = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2e-6}[dtype]
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(outputs, "float32")),
        expected,
        rtol=step,
        atol=1e-7,
    )
