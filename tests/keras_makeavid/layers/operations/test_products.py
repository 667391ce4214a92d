"""Each form of the operation against torch: values, gradients, half precision."""

import keras
import numpy as np
import pytest
import torch
from operation_forms import BACKEND, assert_agrees, forms, normal

from keras_makeavid.layers import SpatialConv, TemporalConv
from keras_makeavid.layers.operations import products as module

SIZES = [((3, 3), 1), ((3, 3), 2), ((1, 1), 1), ((3, 1), 1), ((5, 3), 1)]


def conv2d_of_torch(inputs, kernel, bias, strides=1, padding="half"):
    half = [size // 2 for size in kernel.shape[:2]]
    outputs = torch.nn.functional.conv2d(
        inputs.permute(0, 3, 1, 2),
        kernel.permute(3, 2, 0, 1),
        bias,
        stride=strides,
        padding=half if padding == "half" else 0,
    )
    return outputs.permute(0, 2, 3, 1)


@pytest.mark.parametrize("conv2d", forms(module, "conv2d"))
@pytest.mark.parametrize("padding", ["half", "valid"])
@pytest.mark.parametrize(("kernel_size", "strides"), SIZES)
def test_convolution_agrees_with_torch(conv2d, kernel_size, strides, padding):
    assert_agrees(
        lambda *arrays: conv2d(*arrays, strides, padding),
        lambda *tensors: conv2d_of_torch(*tensors, strides, padding),
        normal(2, 7, 10, 4),
        normal(*kernel_size, 4, 5, seed=1),
        normal(5, seed=2),
    )


@pytest.mark.parametrize(("kernel_size", "strides"), SIZES)
def test_of_few_pixels_it_is_a_product_of_patches(kernel_size, strides, monkeypatch):
    monkeypatch.setattr(module, "_NUMBERS_PER_PIXEL", 1)
    if BACKEND != "tensorflow":
        for name in ("_conv2d_portable", "_conv2d_torch"):
            monkeypatch.setattr(module, name, None)
    assert_agrees(
        lambda *arrays: module.conv2d(*arrays, strides),
        lambda *tensors: conv2d_of_torch(*tensors, strides),
        normal(1, 3, 5, 4),
        normal(*kernel_size, 4, 5, seed=1),
        normal(5, seed=2),
    )


@pytest.mark.parametrize("numbers_per_pixel", [1, 1 << 13])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kernel_size", [(3, 3), (1, 1)])
def test_half_precision_is_rounded_once(
    kernel_size, dtype, numbers_per_pixel, monkeypatch
):
    monkeypatch.setattr(module, "_NUMBERS_PER_PIXEL", numbers_per_pixel)
    # Long sums: rounded partial sums would lose several digits more.
    arrays = normal(1, 7, 10, 512), normal(*kernel_size, 512, 5), normal(5)
    half = [torch.from_numpy(x).to(getattr(torch, dtype)) for x in arrays]
    inputs, kernel, bias = (x.double() for x in half)
    expected = conv2d_of_torch(inputs, kernel, bias)
    inputs = [keras.ops.convert_to_tensor(x, dtype) for x in arrays]
    outputs = keras.ops.cast(module.conv2d(*inputs), "float32")
    step = torch.finfo(half[0].dtype).eps / 2
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(outputs), expected, rtol=step, atol=1e-4
    )


@pytest.mark.skipif(BACKEND != "torch", reason="only torch orders kernels by stride")
def test_kernels_stay_in_torchs_memory_order():
    for layer in (SpatialConv(5), TemporalConv()):
        layer.build((2, 3, 6, 8, 4)[-4 if layer.name.startswith("spatial") else 0 :])
        layer.kernel.assign(normal(*layer.kernel.shape))
        in_torchs_order = layer.kernel.value.movedim(-1, 0)
        assert in_torchs_order.is_contiguous()
