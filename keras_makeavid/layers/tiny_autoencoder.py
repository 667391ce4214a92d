"""The tiny autoencoder as one layer: plain convolutions and ReLU, no norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import keras
from keras import ops

from keras_makeavid.layers.convolution import SpatialConv
from keras_makeavid.layers.resampling import double_nearest
from keras_makeavid.tensor import Shape, Tensor

# The decoder bounds latents softly by it, whatever its configuration says.
_LARGEST_LATENT = 3.0


class TinyBlock(keras.layers.Layer):
    """Three convolutions with ReLU between, the input added, and ReLU."""

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        # Named by their place, as in published files: the ReLUs have the others.
        self.conv_0, self.conv_2, self.conv_4 = (
            SpatialConv(channels, dtype=self.dtype_policy, name=f"conv_{place}")
            for place in (0, 2, 4)
        )
        self.filters = channels

    def build(self, input_shape) -> None:
        for conv in (self.conv_0, self.conv_2, self.conv_4):
            conv.build(input_shape)

    def call(self, inputs) -> Tensor:
        """Transform `(N, H, W, channels)`; the shape stays."""
        x = ops.relu(self.conv_0(inputs))
        x = self.conv_4(ops.relu(self.conv_2(x)))
        return ops.relu(inputs + x)


class _Stack(keras.layers.Layer):
    """Steps in a row: layers, named by their place, and functions without weights."""

    def __init__(self, steps: Iterable[Callable[..., Tensor]], **kwargs):
        super().__init__(**kwargs)
        self._functions: dict[int, Callable[[Tensor], Tensor]] = {}
        self.num_steps = 0
        for place, step in enumerate(steps):
            self.num_steps = place + 1
            # Layers are attributes of their own, which Keras saves by these names.
            if isinstance(step, keras.layers.Layer):
                setattr(self, f"layers_{place}", step)
            else:
                self._functions[place] = step

    def _steps(self):
        for place in range(self.num_steps):
            yield self._functions.get(place) or getattr(self, f"layers_{place}")

    def build(self, input_shape):
        for step in self._steps():
            if isinstance(step, keras.layers.Layer):
                step.build(input_shape)
                input_shape = (None, None, None, step.filters)

    def call(self, x):
        """`(N, H, W, C)` through every step."""
        for step in self._steps():
            x = step(x)
        return x


class TinyAutoencoder(keras.layers.Layer):
    """The network of `keras_makeavid.models.AutoencoderTiny`, which documents it."""

    def __init__(
        self,
        in_channels: int,
        latent_channels: int,
        channels: int,
        encoder_blocks: Sequence[int],
        decoder_blocks: Sequence[int],
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.latent_channels = latent_channels
        policy = self.dtype_policy

        def named(steps):
            for place, (make, *arguments) in enumerate(steps):
                if isinstance(make, type):
                    yield make(*arguments, dtype=policy, name=f"layers_{place}")
                else:
                    yield make

        self.encoder = _Stack(
            named(_encoder_steps(latent_channels, channels, encoder_blocks)),
            dtype=policy,
            name="encoder",
        )
        self.decoder = _Stack(
            named(_decoder_steps(in_channels, channels, decoder_blocks)),
            dtype=policy,
            name="decoder",
        )

    def build(self, input_shape) -> None:
        self.encoder.build(input_shape)
        self.decoder.build((None, None, None, self.latent_channels))

    def encode(self, images) -> Tensor:
        """`(N, H, W, C)` in [-1, 1] to `(N, h, w, latent_channels)`."""
        return self.encoder((images + 1) / 2)

    def decode(self, latents) -> Tensor:
        """`(N, h, w, latent_channels)` to `(N, H, W, C)`, about in [-1, 1]."""
        bounded = ops.tanh(latents / _LARGEST_LATENT) * _LARGEST_LATENT
        return self.decoder(bounded) * 2 - 1

    def call(self, images) -> Tensor:
        """Reconstruct `(N, H, W, C)`."""
        return self.decode(self.encode(images))

    def compute_output_shape(self, input_shape) -> Shape:
        return input_shape


def _encoder_steps(latent_channels, channels, blocks):
    for level, count in enumerate(blocks):
        # Filters, side of the kernel, stride, whether there is a bias.
        yield (SpatialConv, channels, 3, 2 if level else 1, not level)
        yield from [(TinyBlock, channels)] * count
    yield (SpatialConv, latent_channels)


def _decoder_steps(out_channels, channels, blocks):
    yield (SpatialConv, channels)
    yield (ops.relu,)
    for level, count in enumerate(blocks):
        yield from [(TinyBlock, channels)] * count
        if level < len(blocks) - 1:
            yield (double_nearest,)
            yield (SpatialConv, channels, 3, 1, False)
    yield (SpatialConv, out_channels)
