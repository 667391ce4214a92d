"""Each form of each kernel against torch: values, gradients, half precision."""

import keras
import numpy as np
import pytest
import torch
from gradients import value_and_gradients
from keras import ops

from keras_makeavid.layers import SpatialConv, TemporalConv, kernels

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


def forms(name):
    """The public kernel, and its portable form where the backend has its own."""
    names = [name, f"_{name}_portable"] if BACKEND == "torch" else [name]
    return [getattr(kernels, name) for name in names]


@pytest.mark.parametrize("conv2d", forms("conv2d"))
@pytest.mark.parametrize("padding", ["half", "valid"])
@pytest.mark.parametrize(
    ("kernel_size", "strides"),
    [((3, 3), 1), ((3, 3), 2), ((1, 1), 1), ((3, 1), 1), ((5, 3), 1)],
)
def test_convolution_agrees_with_torch(conv2d, kernel_size, strides, padding):
    def reference(inputs, kernel, bias):
        outputs = torch.nn.functional.conv2d(
            inputs.permute(0, 3, 1, 2),
            kernel.permute(3, 2, 0, 1),
            bias,
            stride=strides,
            padding=[n // 2 for n in kernel_size] if padding == "half" else 0,
        )
        return outputs.permute(0, 2, 3, 1)

    assert_agrees(
        lambda *arrays: conv2d(*arrays, strides, padding),
        reference,
        normal(2, 7, 10, 4),
        normal(*kernel_size, 4, 5, seed=1),
        normal(5, seed=2),
    )


@pytest.mark.skipif(BACKEND != "torch", reason="only torch orders kernels by stride")
def test_kernels_stay_in_torchs_memory_order():
    for layer in (SpatialConv(5), TemporalConv()):
        layer.build((2, 3, 6, 8, 4)[-4 if layer.name.startswith("spatial") else 0 :])
        layer.kernel.assign(normal(*layer.kernel.shape))
        in_torchs_order = layer.kernel.value.movedim(-1, 0)
        assert in_torchs_order.is_contiguous()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("silu", forms("silu"))
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
    outputs = kernels.gated_gelu(inputs, approximate)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    step = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2e-6}[dtype]
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(outputs, "float32")),
        expected,
        rtol=step,
        atol=2e-6,
    )


@pytest.mark.parametrize("gated_gelu", forms("gated_gelu"))
@pytest.mark.parametrize("approximate", [True, False])
@pytest.mark.parametrize("shape", [(7, 6), (2, 3, 5, 6)])
def test_gated_gelu_agrees_with_torch(monkeypatch, gated_gelu, shape, approximate):
    # Runs of 4 tokens, which do not come out even.
    monkeypatch.setattr(kernels, "_TORCH_GATED_AT_ONCE", 4 * 6)
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
    gradient = torch.autograd.grad(kernels.gated_gelu(inputs, False), inputs, upstream)
    exact = inputs.detach().double().requires_grad_()
    value, gate = exact.chunk(2, dim=-1)
    outputs = value * torch.nn.functional.gelu(gate)
    expected = torch.autograd.grad(outputs, exact, upstream.double())[0]
    step = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(gradient[0].double(), expected, rtol=step, atol=2e-6)


@pytest.mark.parametrize("group_normalization", forms("group_normalization"))
@pytest.mark.parametrize("mean", [0, 100])
@pytest.mark.parametrize("shape", [(2, 6, 8), (2, 4, 5, 8), (2, 3, 4, 5, 8)])
def test_group_normalization_agrees_with_torch(group_normalization, shape, mean):
    def reference(inputs, scale, offset):
        x = inputs.double().movedim(-1, 1)
        x = torch.nn.functional.group_norm(x, 2, scale.double(), offset.double(), 1e-5)
        return x.movedim(1, -1).float()

    assert_agrees(
        lambda *arrays: group_normalization(*arrays, groups=2, epsilon=1e-5),
        reference,
        normal(*shape) + np.float32(mean),
        normal(8, seed=1),
        normal(8, seed=2),
    )


@pytest.mark.parametrize("group_normalization", forms("group_normalization"))
def test_group_normalization_keeps_the_digits_of_values_far_from_zero(
    group_normalization,
):
    # In float32 E[x^2] - E[x]^2 of these is off by more than the variance.
    inputs = normal(1, 32, 32, 16) + np.float32(1e4)
    outputs = group_normalization(inputs, np.ones(16), np.zeros(16), 4, 1e-5)
    x = torch.from_numpy(inputs).double().movedim(-1, 1)
    expected = torch.nn.functional.group_norm(x, 4).movedim(1, -1)
    # The mean itself is rounded to 1e-3.
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs), expected, atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("layer_normalization", forms("layer_normalization"))
@pytest.mark.parametrize("mean", [0, 10])
def test_layer_normalization_agrees_with_torch(layer_normalization, mean):
    def reference(*arrays):
        x, *rest = (array.double() for array in arrays)
        return torch.nn.functional.layer_norm(x, (32,), *rest, 1e-3).float()

    assert_agrees(
        lambda *arrays: layer_normalization(*arrays, 1e-3),
        reference,
        normal(2, 5, 32) + np.float32(mean),
        normal(32, seed=1),
        normal(32, seed=2),
    )


def test_group_normalization_has_gradients_where_only_its_scale_trains():
    scale = keras.Variable(normal(8, seed=1))
    inputs = normal(2, 3, 1, 4, 8)

    def function():
        outputs = kernels.group_normalization(inputs, scale, np.zeros(8), 4, 1e-5)
        return ops.sum(outputs * ops.convert_to_tensor(inputs))

    _, (gradient,) = value_and_gradients(function, [scale])
    outputs = kernels.group_normalization(inputs, np.ones(8), np.zeros(8), 4, 1e-5)
    expected = np.sum(ops.convert_to_numpy(outputs) * inputs, axis=(0, 1, 2, 3))
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


ATTENTIONS = [*forms("attention"), kernels._attention_sliced]


def torch_attention(query, key, value):
    outputs = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (query, key, value))
    )
    return outputs.transpose(1, 2)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(("length", "keys"), [(6, 20), (9, 5), (1, 7), (7, 1)])
def test_attention_agrees_with_torch(attention, length, keys):
    assert_agrees(
        attention,
        torch_attention,
        normal(2, length, 3, 4),
        normal(2, keys, 3, 4, seed=1),
        normal(2, keys, 3, 4, seed=2),
    )


@pytest.mark.skipif(BACKEND != "torch", reason="that of torch, of narrow heads")
@pytest.mark.parametrize("length", [1, 5, 64])
def test_attention_to_few_keys_agrees_with_torch(length):
    lengths = enumerate((length, 20, 20))
    arrays = [normal(2, n, 3, 12, seed=seed) for seed, n in lengths]
    assert_agrees(kernels._attention_to_few_keys_torch, torch_attention, *arrays)


@pytest.mark.skipif(BACKEND != "torch", reason="that of torch, of narrow heads")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_attention_to_few_keys_is_rounded_once(dtype, monkeypatch):
    taken = []
    products = kernels._attention_to_few_keys_torch
    monkeypatch.setattr(
        kernels,
        "_attention_to_few_keys_torch",
        lambda *a: taken.append(1) or products(*a),
    )
    arrays = [normal(2, 20, 3, 12, seed=seed) for seed in range(3)]
    half = [torch.from_numpy(x).to(getattr(torch, dtype)) for x in arrays]
    expected = torch_attention(*(x.double() for x in half))
    step = torch.finfo(half[0].dtype).eps / 2
    torch.testing.assert_close(
        kernels.attention(*half).double(), expected, rtol=step, atol=2e-6
    )
    assert taken


@pytest.mark.parametrize(("length", "run"), [(24, 8), (15, 5), (9, 9), (13, 1)])
def test_sliced_attention_takes_long_queries_in_runs(monkeypatch, length, run):
    monkeypatch.setattr(kernels, "_SCORES_PER_SLICE", 6 * 10)
    assert kernels._run_length(length, 6) == run
    assert_agrees(
        kernels._attention_sliced,
        torch_attention,
        normal(2, length, 3, 4),
        normal(2, 6, 3, 4, seed=1),
        normal(2, 6, 3, 4, seed=2),
    )


@pytest.mark.skipif(BACKEND == "torch", reason="torch's own kernel needs no slices")
def test_attention_is_sliced_where_there_are_many_scores(monkeypatch):
    arrays = [normal(1, 8, 2, 4, seed=seed) for seed in range(3)]
    sliced = []
    slices = kernels._attention_sliced
    monkeypatch.setattr(
        kernels, "_attention_sliced", lambda *a: sliced.append(1) or slices(*a)
    )
    kernels.attention(*map(ops.convert_to_tensor, arrays))
    assert not sliced
    monkeypatch.setitem(kernels._SLICED_FROM_SCORES, BACKEND, 8 * 8)
    kernels.attention(*map(ops.convert_to_tensor, arrays))
    assert sliced


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_averages_4096_equal_keys(attention, dtype):
    # A sum of 4096 weights taken in bfloat16 stands still at 256, one in float16
    # at 2048; each weight of 1/4096 is far from what float16 resolves.
    key = ops.cast(ops.ones((1, 4096, 1, 8)), dtype)
    value = ops.cast(normal(1, 4096, 1, 8) + 1, dtype)
    query = ops.cast(normal(1, 3, 1, 8, seed=1), dtype)
    outputs = ops.convert_to_numpy(ops.cast(attention(query, key, value), "float32"))
    expected = ops.convert_to_numpy(ops.cast(value, "float32")).mean(axis=1)
    rounding = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    np.testing.assert_allclose(
        outputs, np.broadcast_to(expected[:, None], outputs.shape), rtol=2 * rounding
    )


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_attends_by_large_scores(attention, dtype):
    # Products reach 64 * 40 * 40 = 102,400, beyond float16's largest number.
    query = ops.cast(40 * np.sign(normal(1, 5, 1, 64)), dtype)
    value = ops.cast(normal(1, 5, 1, 64, seed=1), dtype)
    outputs = ops.convert_to_numpy(ops.cast(attention(query, query, value), "float32"))
    expected = ops.convert_to_numpy(ops.cast(value, "float32"))
    np.testing.assert_allclose(outputs, expected, rtol=1e-2, atol=1e-2)
