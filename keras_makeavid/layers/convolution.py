"""Pseudo-3D convolution: a 2-D convolution in space, then a 1-D one in time."""

from typing import Any

import keras
from keras import ops

from keras_makeavid.layers.int8 import Int8Kernel, convolution_policy, rounded
from keras_makeavid.layers.layer import Layer, ShapeKeepingLayer
from keras_makeavid.layers.operations import products
from keras_makeavid.tensor import Shape, Tensor
from keras_makeavid.validation import refusal


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TemporalIdentity(keras.initializers.Initializer):
    """The kernel `(K, C, C)` of a convolution over frames that changes nothing.

    It makes an inflated model start as the image model (docs/model.md, Inflation).
    """

    def __call__(self, shape, dtype=None):
        """Return the kernel of a shape `(K, C, C)` with K odd; others are refused."""
        if len(shape) != 3 or shape[0] % 2 == 0 or shape[1] != shape[2]:
            expected = "TemporalIdentity makes kernels of shape (odd K, C, C)"
            raise ValueError(f"{expected}. Received: shape={tuple(shape)}")
        centre = ops.eye(shape[1], dtype=dtype)[None]
        side = ops.zeros((shape[0] // 2, *shape[1:]), dtype=dtype)
        return ops.concatenate([side, centre, side], axis=0)


class Convolution(Int8Kernel, Layer):
    """A kernel, in int8 or not, with an adapter or not, and a bias."""

    def __init__(self, *, name=None, dtype=None, **kwargs):
        super().__init__(name=name, dtype=convolution_policy(name, dtype), **kwargs)

    def _add_weights(self, kernel_shape, initializer, use_bias=True):
        if self.quantization_mode is None:
            self._kernel = self.add_weight(
                name="kernel",
                shape=kernel_shape,
                initializer=products.kernel_initializer(initializer),
            )
        else:
            self.quantized_build(kernel_shape, self.quantization_mode)
        self.bias = None
        if use_bias:
            self.bias = self.add_weight(kernel_shape[-1:], "zeros", name="bias")

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
    ) -> None:
        """Add an adapter, and freeze the kernel, as Keras's own convolutions do."""
        *leading, filters = self._kernel.shape
        self._tracker.unlock()
        self.lora_kernel_a = self.add_weight(
            (*leading, rank),
            keras.initializers.get(a_initializer),
            "float32",
            name="lora_kernel_a",
        )
        self.lora_kernel_b = self.add_weight(
            (rank, filters), "zeros", "float32", name="lora_kernel_b"
        )
        self._kernel.trainable = False
        self._tracker.lock()
        self.lora_enabled, self.lora_rank = True, rank
        self.lora_alpha = rank if lora_alpha is None else lora_alpha

    def _saved(self):
        variables = (self._kernel, self.bias, getattr(self, "kernel_scale", None))
        return [variable for variable in variables if variable is not None]

    def save_own_variables(self, store) -> None:
        values = self._saved()
        if self.lora_enabled and self.quantization_mode is None:
            values[0] = self.kernel
        elif self.lora_enabled:
            values[0], values[-1] = rounded(ops.convert_to_numpy(self.kernel))
        for place, value in enumerate(values):
            store[str(place)] = value

    def load_own_variables(self, store) -> None:
        store = self._as_kept(store)
        self._check_load_own_variables(store)
        for place, variable in enumerate(self._saved()):
            variable.assign(store[str(place)])
        if self.lora_enabled:
            self.lora_kernel_b.assign(ops.zeros_like(self.lora_kernel_b))


@keras.saving.register_keras_serializable(package="keras_makeavid")
class SpatialConv(Convolution):
    """2-D convolution with symmetric zero padding, as Stable Diffusion pads.

    `keras.layers.Conv2D(padding="same")` pads (0, 1) at stride 2, which shifts the
    picture by half a pixel against the trained weights.

    Args:
        filters: Number of output channels.
        kernel_size: Odd side of the kernel.
        strides: Stride over height and width.
        use_bias: Whether a bias is added.

    Example:
    ```python
    y = SpatialConv(64, kernel_size=3, strides=2)(keras.ops.ones((2, 8, 8, 4)))
    ```
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        use_bias: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.use_bias = use_bias

    def build(self, input_shape) -> None:
        side = self.kernel_size
        shape = (side, side, input_shape[-1], self.filters)
        self._add_weights(shape, products.GlorotUniform(), self.use_bias)

    def call(self, inputs) -> Tensor:
        """Convolve `(N, H, W, C_in)` to `(N, H / strides, W / strides, filters)`."""
        return products.conv2d(inputs, self.kernel, self.bias, self.strides)

    def compute_output_shape(self, input_shape) -> Shape:
        batch, height, width, _ = input_shape
        return (batch, *_strided((height, width), self.strides), self.filters)


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TemporalConv(Convolution, ShapeKeepingLayer):
    """1-D convolution of kernel 3 over frames at each pixel, C to C.

    Starts as the identity. It is computed as a 2-D convolution of kernel `(3, 1)` on
    `(B, F, H * W, C)`: no transpose, and as fast as a matrix product.

    Example:
    ```python
    same_video = TemporalConv()(keras.random.normal((1, 8, 16, 16, 32)))
    ```
    """

    def build(self, input_shape) -> None:
        channels = input_shape[-1]
        self._add_weights((3, channels, channels), TemporalIdentity())

    def call(self, inputs) -> Tensor:
        """Convolve `(B, F, H, W, C)` over F; the shape stays."""
        return products.conv_over_frames(inputs, self.kernel, self.bias)


@keras.saving.register_keras_serializable(package="keras_makeavid")
class PseudoConv3D(Layer):
    """2-D convolution of each frame, then 1-D convolution over the frames.

    Make-A-Video (Singer et al., 2022), section 3.2.1; docs/model.md, UNet. On an image
    the temporal convolution is skipped.

    Args:
        filters: Number of output channels.
        kernel_size: Odd side of the spatial kernel; 0-padded by half of it.
        strides: Spatial stride.
        temporal: Whether there is a temporal convolution.

    Raises:
        ValueError: If the side of the kernel is even, or not positive.

    Example:
    ```python
    layer = PseudoConv3D(64)
    layer(keras.random.normal((1, 8, 32, 32, 4))).shape  # (1, 8, 32, 32, 64)
    layer(keras.random.normal((1, 32, 32, 4))).shape  # (1, 32, 32, 64)
    ```
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        temporal: bool = True,
        name: str | None = None,
        dtype=None,
        **kwargs,
    ):
        super().__init__(name=name, dtype=convolution_policy(name, dtype), **kwargs)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise refusal("kernel_size must be odd and positive", kernel_size)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.spatial_conv = self.part(
            SpatialConv, "spatial_conv", filters, kernel_size, strides
        )
        self.temporal = temporal
        self.temporal_conv = None
        if temporal:
            self.temporal_conv = self.part(TemporalConv, "temporal_conv")

    def build(self, input_shape) -> None:
        self.spatial_conv.build((None, *input_shape[-3:]))
        if self.temporal_conv is not None:
            self.temporal_conv.build((None, None, None, None, self.filters))

    def call(self, inputs) -> Tensor:
        """Convolve video `(B, F, H, W, C)` or image `(B, H, W, C)` to `filters`."""
        if len(inputs.shape) == 4:
            return self.spatial_conv(inputs)
        shape = ops.shape(inputs)
        frames = ops.reshape(inputs, (-1, *shape[2:]))
        frames = self.spatial_conv(frames)
        video = ops.reshape(frames, (*shape[:2], *ops.shape(frames)[1:]))
        return video if self.temporal_conv is None else self.temporal_conv(video)

    def compute_output_shape(self, input_shape) -> Shape:
        *leading, height, width, _ = input_shape
        return (*leading, *_strided((height, width), self.strides), self.filters)


def _strided(sizes, strides):
    return tuple(None if size is None else -(-size // strides) for size in sizes)
