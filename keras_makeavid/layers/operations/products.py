"""Products with a kernel: dense, 2-D convolution, convolution over frames."""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator

import keras
from keras import ops

from keras_makeavid.devices import platform, summed_in_float32
from keras_makeavid.tensor import Tensor

# On a CPU, PyTorch and JAX lay out the kernel of a convolution anew in each pass. Where
# there is a pixel of output or less for so many of its numbers, that takes longer than
# one product with patches, 4 times at most: two cores of an Intel Xeon with AVX-512,
# PyTorch 2.13 and jax 0.10; TensorFlow 2.21 is as fast either way. Patches of more
# pixels than the most would take much memory.
_NUMBERS_PER_PIXEL, _MOST_PIXELS = 1 << 13, 1 << 10


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
    if padding == "half" and _is_for_few_pixels(inputs, kernel, strides):
        return _conv2d_of_patches(inputs, kernel, bias, strides)
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


_NO_VALUES = contextvars.ContextVar("kernels_without_values", default=False)


@contextlib.contextmanager
def kernels_without_values() -> Iterator[None]:
    """Draw no kernels of layers that are built in it: all of them are to be loaded."""
    token = _NO_VALUES.set(True)
    try:
        yield
    finally:
        _NO_VALUES.reset(token)


def first_values(
    initializer: str | keras.initializers.Initializer | Callable[..., Tensor],
) -> Callable[..., Tensor]:
    """Give the initializer; in `kernels_without_values`, one that draws nothing."""
    return _no_values if _NO_VALUES.get() else keras.initializers.get(initializer)


def _no_values(shape, dtype=None):
    if keras.config.backend() == "torch":
        # Takes neither time nor memory before it is written.
        return ops.zeros((), dtype).new_empty(shape)
    return ops.zeros(shape, dtype)


def kernel_initializer(
    initializer: str | keras.initializers.Initializer,
) -> Callable[..., Tensor]:
    """Make an initializer of kernels `(..., C_in, C_out)` in the backend's order.

    PyTorch would copy every kernel into its order, `(C_out, ..., C_in)`, in every pass.
    Shape and values stay as they are, and the order outlives assignments.
    """
    initializer = first_values(initializer)
    if keras.config.backend() != "torch":
        return initializer

    def in_memory_order(shape, dtype=None):
        last = len(shape) - 1
        if initializer is _no_values:
            value = initializer((shape[last], *shape[:last]), dtype=dtype)
        else:
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


def _is_for_few_pixels(inputs, kernel, strides) -> bool:
    if keras.config.backend() == "torch":
        import torch

        # A trace for other sizes would keep these.
        is_slow = inputs.device.type == "cpu" and not torch.jit.is_tracing()
    else:
        is_slow = keras.config.backend() == "jax" and platform() == "cpu"
    shape = inputs.shape[:3]
    # While a graph is traced symbolically, a size is `None` or an expression.
    if not is_slow or not all(isinstance(size, int) for size in shape):
        return False
    few = min(math.prod(kernel.shape) // _NUMBERS_PER_PIXEL, _MOST_PIXELS)
    return math.prod(shape) <= few * strides**2


def _conv2d_of_patches(inputs, kernel, bias, strides):
    """The same, padded by half, as one product with the patches of all pixels."""
    rows, columns = kernel.shape[:2]
    halves = ((rows // 2,) * 2, (columns // 2,) * 2)
    padded = ops.pad(inputs, ((0, 0), *halves, (0, 0)))
    height, width = inputs.shape[1:3]
    shifted = [
        padded[:, i : i + height : strides, j : j + width : strides]
        for i in range(rows)
        for j in range(columns)
    ]
    kernel = ops.reshape(kernel, (-1, kernel.shape[-1]))
    return dense(ops.concatenate(shifted, axis=-1), kernel, bias)


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
