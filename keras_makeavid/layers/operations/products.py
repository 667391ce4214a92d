"""Products with a kernel: dense, 2-D convolution, convolution over frames."""

import math
from collections.abc import Callable

import keras
from keras import ops

from keras_makeavid.devices import platform, summed_in_float32
from keras_makeavid.tensor import Tensor


def dense(inputs: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Take the matrix product over the last axis, plus a bias if there is one."""
    if keras.config.backend() == "torch":
        # One kernel, which adds the bias inside the product.
        import torch

        inputs, kernel, *rest = map(ops.convert_to_tensor, given(inputs, kernel, bias))
        return torch.nn.functional.linear(inputs, kernel.t(), *rest)
    return summed_in_float32(_dense_portable, *given(inputs, kernel, bias))


def given(*arrays: Tensor | None) -> list[Tensor]:
    """Leave out what is `None`."""
    return [array for array in arrays if array is not None]


def _dense_portable(inputs, kernel, *bias):
    outputs = ops.matmul(inputs, kernel)
    return ops.add(outputs, *bias) if bias else outputs


def conv2d(
    inputs: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    strides: int = 1,
    padding: str = "half",
) -> Tensor:
    """Convolve `(N, H, W, C_in)` by a kernel `(KH, KW, C_in, C_out)` of odd sides.

    By default zeros pad half the kernel on both sides, as in Stable Diffusion; Keras's
    `"same"` pads (0, 1) where the stride is 2 (docs/model.md, Traps).
    """
    height, width = kernel.shape[:2]
    if (height, width, strides) == (1, 1, 1):
        return dense(inputs, ops.reshape(kernel, kernel.shape[2:]), bias)
    if keras.config.backend() == "torch":
        return _conv2d_torch(inputs, kernel, bias, strides, padding)
    return _conv2d_portable(inputs, kernel, bias, strides, padding)


class GlorotUniform(keras.initializers.GlorotUniform):
    """Keras's, to the bit; drawn in one row, which XLA compiles much sooner."""

    def __call__(self, shape, dtype=None):
        fans = math.prod(shape[:-2]) * (shape[-2] + shape[-1])
        limit = math.sqrt(3.0 * (1.0 / max(1.0, fans / 2.0)))
        row = keras.random.uniform(
            (math.prod(shape),), -limit, limit, dtype=dtype, seed=self.seed
        )
        return ops.reshape(row, shape)


def kernel_initializer(
    initializer: str | keras.initializers.Initializer,
) -> Callable[..., Tensor]:
    """Make an initializer of kernels `(..., C_in, C_out)` in the backend's order.

    PyTorch would copy every kernel into its order, `(C_out, ..., C_in)`, in every pass.
    Shape and values stay as they are, and the order outlives assignments.
    """
    initializer = keras.initializers.get(initializer)
    if keras.config.backend() != "torch":
        return initializer

    def in_memory_order(shape, dtype=None):
        last = len(shape) - 1
        value = initializer(shape, dtype=dtype).permute(last, *range(last))
        return value.contiguous().permute(*range(1, last + 1), 0)

    return in_memory_order


def _conv2d_portable(inputs, kernel, bias, strides, padding):
    if padding == "half" and strides == 1:
        padding = "same"
    elif padding == "half":
        rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
        inputs = ops.pad(inputs, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
        padding = "valid"

    def convolve(inputs, kernel, *bias):
        outputs = ops.conv(
            inputs, kernel, strides, padding=padding, data_format="channels_last"
        )
        return ops.add(outputs, *bias) if bias else outputs

    return summed_in_float32(convolve, *given(inputs, kernel, bias))


def _conv2d_torch(inputs, kernel, bias, strides, padding):
    # A permuted channels-last tensor *is* torch's channels_last memory format:
    # nothing is copied, and the bias is added inside the convolution.
    import torch

    inputs, kernel, *biases = map(ops.convert_to_tensor, given(inputs, kernel, bias))
    half = (kernel.shape[0] // 2, kernel.shape[1] // 2)
    outputs = torch.nn.functional.conv2d(
        inputs.permute(0, 3, 1, 2),
        kernel.permute(3, 2, 0, 1),
        *biases or [None],
        stride=strides,
        padding=half if padding == "half" else 0,
    )
    return outputs.permute(0, 2, 3, 1)


def conv_over_frames(inputs: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Convolve `(B, F, H, W, C)` over frames at each pixel, padded by half the kernel.

    The kernel is `(K, C, C)` with odd K. A 2-D convolution by `(K, 1)` of `(B, F, H *
    W, C)`, which needs no transpose, is three times as fast as a 1-D convolution after
    one (PyTorch on two cores of x86-64).
    """
    if keras.config.backend() == "jax" and platform() == "tpu":
        # Height and width stay apart: TPUs would copy them together, and apart again.
        kernel = ops.reshape(kernel, (kernel.shape[0], 1, 1, *kernel.shape[1:]))
        outputs = ops.conv(inputs, kernel, padding="same", data_format="channels_last")
        return ops.add(outputs, bias)
    shape = ops.shape(inputs)
    tokens = ops.reshape(inputs, (shape[0], shape[1], -1, shape[4]))
    outputs = conv2d(tokens, ops.expand_dims(kernel, 1), bias)
    return ops.reshape(outputs, (*shape[:4], kernel.shape[-1]))


def widened(kernel: Tensor, scale: Tensor, dtype: str) -> Tensor:
    """Divide an int8 kernel `(..., C_out)` by its scales `(C_out,)`, in float32."""
    kernel, scale = map(ops.convert_to_tensor, (kernel, scale))
    return ops.cast(ops.cast(kernel, "float32") / scale, dtype)
