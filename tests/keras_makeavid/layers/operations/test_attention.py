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
    assert module._run_length(length, 6) == run
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
