"""The tiny autoencoder as one layer: plain convolutions and ReLU, no norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from keras import ops

from keras_makeavid.layers.convolution import SpatialConv
from keras_makeavid.layers.layer import Layer, ShapeKeepingLayer
from keras_makeavid.layers.resampling import double_nearest
from keras_makeavid.tensor import Tensor

# The decoder bounds latents softly by it, whatever its configuration says.
_LARGEST_LATENT = 3.0


class TinyBlock(ShapeKeepingLayer):
    """Three convolutions with ReLU between, the input added, and ReLU."""

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        # Named by their place, as in published files: the ReLUs have the others.
        self.conv_0, self.conv_2, self.conv_4 = (
            self.part(SpatialConv, f"conv_{place}", channels) for place in (0, 2, 4)
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


class _Stack(Layer):
    """Steps in a row: layers, named by their place, and functions without weights.

    A step is a function, or the class of a layer with its arguments.
    """

    def __init__(self, steps: Iterable[tuple], **kwargs):
        super().__init__(**kwargs)
        self._steps: list[str | Callable[[Tensor], Tensor]] = []
        for place, (make, *arguments) in enumerate(steps):
            name = f"layers_{place}"
            # Layers are attributes of their own, which Keras saves by these names.
            if isinstance(make, type):
                setattr(self, name, self.part(make, name, *arguments))
            self._steps.append(name if isinstance(make, type) else make)

    def build(self, input_shape):
        for step in self._steps:
            if isinstance(step, str):
                layer = getattr(self, step)
                layer.build(input_shape)
                input_shape = (None, None, None, layer.filters)

    def call(self, x):
        """`(N, H, W, C)` through every step."""
        for step in self._steps:
            x = getattr(self, step)(x) if isinstance(step, str) else step(x)
        return x


class TinyAutoencoder(ShapeKeepingLayer):
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
        steps = _encoder_steps(latent_channels, channels, encoder_blocks)
        self.encoder = self.part(_Stack, "encoder", steps)
        steps = _decoder_steps(in_channels, channels, decoder_blocks)
        self.decoder = self.part(_Stack, "decoder", steps)

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
