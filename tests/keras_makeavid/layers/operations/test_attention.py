"""Each form of the operation against torch: values, gradients, half precision."""

import numpy as np
import pytest
import torch
from keras import ops
from operation_forms import BACKEND, assert_agrees, forms, normal

from keras_makeavid.layers.operations import attention as module

ATTENTIONS = [*forms(module, "attention"), module._attention_sliced]


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
    assert_agrees(module._attention_to_few_keys_torch, torch_attention, *arrays)


@pytest.mark.skipif(BACKEND != "torch", reason="that of torch, of narrow heads")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_attention_to_few_keys_is_rounded_once(dtype, monkeypatch):
    taken = []
    products = module._attention_to_few_keys_torch
    monkeypatch.setattr(
        module,
        "_attention_to_few_keys_torch",
        lambda *a: taken.append(1) or products(*a),
    )
    arrays = [normal(2, 20, 3, 12, seed=seed) for seed in range(3)]
    half = [torch.from_numpy(x).to(getattr(torch, dtype)) for x in arrays]
    expected = torch_attention(*(x.double() for x in half))
    step = torch.finfo(half[0].dtype).eps / 2
    torch.testing.assert_close(
        module.attention(*half).double(), expected, rtol=step, atol=2e-6
    )
    assert taken


@pytest.mark.parametrize(("length", "run"), [(24, 8), (15, 5), (9, 9), (13, 1)])
def test_sliced_attention_takes_long_queries_in_runs(monkeypatch, length, run):
    monkeypatch.setattr(module, "_SCORES_PER_SLICE", 6 * 10)
    assert module._run_length(length, 6, 6 * 10) == run
    assert_agrees(
        module._attention_sliced,
        torch_attention,
        normal(2, length, 3, 4),
        normal(2, 6, 3, 4, seed=1),
        normal(2, 6, 3, 4, seed=2),
    )


@pytest.mark.skipif(BACKEND == "torch", reason="torch's own kernel needs no slices")
def test_attention_is_sliced_where_there_are_many_scores(monkeypatch):
    arrays = [normal(1, 8, 2, 4, seed=seed) for seed in range(3)]
    sliced = []
    slices = module._attention_sliced
    monkeypatch.setattr(
        module, "_attention_sliced", lambda *a: sliced.append(1) or slices(*a)
    )
    module.attention(*map(ops.convert_to_tensor, arrays))
    assert not sliced
    monkeypatch.setitem(module._SLICED_FROM_SCORES, BACKEND, 8 * 8)
    module.attention(*map(ops.convert_to_tensor, arrays))
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


@pytest.mark.skipif(BACKEND != "torch", reason="that of torch, as on Apple's MPS")
@pytest.mark.parametrize("most", [1, 3 * 6 * 4, 3 * 6 * 100])
def test_parts_of_many_scores_are_attention(monkeypatch, most):
    monkeypatch.setattr(module, "_MOST_SCORES", most)

    def in_parts(query, key, value):
        arrays = (x.transpose(1, 2) for x in (query, key, value))
        return module._attend_in_parts_torch(*arrays, 4).transpose(1, 2)

    arrays = (normal(2, n, 3, 4, seed=s) for s, n in enumerate((9, 6, 6)))
    assert_agrees(in_parts, torch_attention, *arrays)


def lowered_for_cuda(monkeypatch, shape, dtype, capability):
    """The program for a GPU of NVIDIA; its cuDNN and its age are said to be there."""
    import jax
    from jax import export
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    def is_at_least(asked):
        return capability >= float(asked)

    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91300)
    monkeypatch.setattr(cudnn, "check_compute_capability", is_at_least)
    monkeypatch.setattr(cudnn, "is_cuda_compute_capability_equal", lambda _: False)
    monkeypatch.setattr(module, "platform", lambda: "gpu")
    monkeypatch.setattr(module, "_compute_capability", lambda: capability)
    array = jax.ShapeDtypeStruct(shape, dtype)
    fused = export.DisabledSafetyCheck.custom_call("__cudnn$fmhaSoftmax")
    # A function of its own, as JAX remembers what it made of another one.
    program = jax.jit(lambda *arrays: module.attention(*arrays))
    exported = export.export(program, platforms=["cuda"], disabled_checks=[fused])(
        *[array] * 3
    )
    return exported.mlir_module()


# 16 frames of 512 x 512 at the first level of Stable Diffusion: 17 GB of scores.
@pytest.mark.skipif(BACKEND != "jax", reason="lowered by JAX for another machine")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_on_a_gpu_is_cudnns_kernel(monkeypatch, dtype):
    program = lowered_for_cuda(monkeypatch, (16, 4096, 8, 40), dtype, 8.0)
    assert "__cudnn$fmhaSoftmax" in program
    assert "4096x4096x" not in program


@pytest.mark.skipif(BACKEND != "jax", reason="lowered by JAX for another machine")
@pytest.mark.parametrize(
    ("dtype", "capability"), [("float32", 8.0), ("float16", 7.5), ("float32", 7.5)]
)
def test_without_cudnns_kernel_a_gpu_holds_the_scores_of_a_head(
    monkeypatch, dtype, capability
):
    program = lowered_for_cuda(monkeypatch, (16, 4096, 8, 40), dtype, capability)
    assert "__cudnn$fmhaSoftmax" not in program
    # Of one head, and never of two.
    assert "tensor<4096x4096xf32>" in program
    assert "x4096x4096x" not in program
    # Few scores are all there at once, which is quicker.
    program = lowered_for_cuda(monkeypatch, (2, 64, 8, 40), dtype, capability)
    assert "x64x64x" in program and "while" not in program
