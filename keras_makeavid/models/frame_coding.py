"""Images and videos through an image autoencoder: by frame, by chunk and by tile."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.compilation import compile_inference
from keras_makeavid.layers.layer import check_shape
from keras_makeavid.models.loading import Int8Backbone
from keras_makeavid.tensor import Shape, Tensor

# As in diffusers, neighbours share at least a quarter of a tile.
_OVERLAP = 4


class FrameCoding(Int8Backbone):
    """What autoencoders of images have in common: videos, chunks and tiles.

    A subclass has `encode` and these:

    Attributes:
        network: The layer that holds all weights, with `encode` and `decode`.
        in_channels: Channels of an image.
        latent_channels: Channels of a latent.
        scaling_factor: What latents are multiplied by.
        downsampling_factor: Pixels of an image in a latent's pixel, along one side.
    """

    def __init__(
        self,
        network: keras.layers.Layer,
        in_channels: int,
        latent_channels: int,
        scaling_factor: float,
        levels: int,
        dtype,
        **kwargs,
    ):
        images = keras.Input((None, None, in_channels), name="images")
        super().__init__(inputs=images, outputs=network(images), dtype=dtype, **kwargs)
        self.network = network
        self.in_channels = in_channels
        self.latent_channels = latent_channels
        self.scaling_factor = scaling_factor
        self.downsampling_factor = 2 ** (levels - 1)
        # The graph is of images; `call` folds the frames of videos into the batch.
        self.input_spec = None

    def call(self, images) -> Tensor:
        # The graph that KerasHub wants is of images; this takes videos too.
        return self.decode(self.encode(images))

    def compute_output_shape(self, input_shape) -> Shape:
        return input_shape

    def decode(self, latents) -> Tensor:
        """Decode latents, as `encode` or a UNet returns them, to images.

        From `(..., h, w, latent_channels)` it makes `(..., h * factor, w * factor,
        in_channels)`, about in [-1, 1], unclipped. Other shapes are a `ValueError`.
        """
        check_shape("latents", latents.shape, self.latent_channels)
        return self._by_frame(self.network.decode, latents / self.scaling_factor)

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        super().quantize(*args, **kwargs)
        # They were compiled for the variables that there were.
        for program in ("_encode_program", "_decode_program"):
            self.__dict__.pop(program, None)

    def _by_frame(self, function, video):
        """Fold all axes but the last three into the batch that `function` takes."""
        shape = ops.shape(video)
        frames = ops.reshape(video, (-1, *shape[-3:]))
        outputs = function(ops.cast(frames, self.compute_dtype))
        return ops.reshape(outputs, (*shape[:-3], *ops.shape(outputs)[1:]))

    def encode_video(
        self, frames: np.ndarray, chunk_size: int = 1, tile_size: int | None = None
    ) -> np.ndarray:
        """Encode frames by chunks, and large ones by tiles, to the posterior mean.

        One compiled program serves every chunk and tile, so that memory is bounded by
        theirs whatever the number and size of the frames.

        Args:
            frames: `(F, H, W, C)` or `(B, F, H, W, C)`; uint8, or float in [-1, 1].
            chunk_size: Frames coded at once.
            tile_size: Side in pixels of the overlapping tiles that larger frames are
                coded in, a multiple of the factor, 4 times it or more. `None` is whole.

        Returns:
            Float32 `(F, H / factor, W / factor, latent_channels)`, scaled.

        Raises:
            ValueError: If frames, `chunk_size` or `tile_size` are others than these.

        Example:
        ```python
        latents = autoencoder.encode_video(read_video("cat.mp4"), tile_size=512)
        write_video("cat.mp4", autoencoder.decode_video(latents))
        ```
        """
        frames = np.asarray(frames)
        factor = self.downsampling_factor
        check_shape("frames", frames.shape, self.in_channels, factor)
        if frames.dtype != np.uint8 and not keras.backend.is_float_dtype(
            frames.dtype.name
        ):
            expected = "frames must be uint8, or float in [-1, 1]"
            raise ValueError(f"{expected}. Received: {frames.dtype.name}")
        sizes, scales = (chunk_size, tile_size), (factor, 1)
        return self._by_tiles(self._encode_program, frames, *sizes, *scales)

    def decode_video(
        self, latents: np.ndarray, chunk_size: int = 1, tile_size: int | None = None
    ) -> np.ndarray:
        """Decode latents by chunks, and large ones by tiles, to frames to be shown.

        They are `(F, h, w, latent_channels)` or `(B, F, ...)`; frames are uint8,
        `factor` times as large, of `in_channels`. See `encode_video` for the others.
        """
        latents = np.asarray(latents)
        check_shape("latents", latents.shape, self.latent_channels)
        sizes, scales = (chunk_size, tile_size), (1, self.downsampling_factor)
        return self._by_tiles(self._decode_program, latents, *sizes, *scales, _shown)

    @functools.cached_property
    def _encode_program(self) -> Callable[[np.ndarray], np.ndarray]:
        def encode(frames):
            if keras.backend.standardize_dtype(frames.dtype) == "uint8":
                frames = ops.cast(frames, "float32") / 127.5 - 1.0
            return ops.cast(self.encode(frames), "float32")

        return _on_arrays(compile_inference(encode, [self.network]))

    @functools.cached_property
    def _decode_program(self) -> Callable[[np.ndarray], np.ndarray]:
        def decode(latents):
            return ops.cast(self.decode(latents), "float32")

        return _on_arrays(compile_inference(decode, [self.network]))

    def check_tile_size(self, tile_size: int | None) -> None:
        """Refuse a side of tiles that `encode_video` and `decode_video` cannot take."""
        factor = self.downsampling_factor
        if tile_size is not None and (tile_size % factor or tile_size < 4 * factor):
            expected = f"a multiple of {factor} and at least {4 * factor}"
            raise ValueError(f"tile_size must be {expected}. Received: {tile_size}")

    def _by_tiles(
        self, program, video, chunk_size, tile_size, scale_in, scale_out, finish=None
    ) -> np.ndarray:
        """Code runs of `chunk_size` frames by tiles, all of one shape."""
        self.check_tile_size(tile_size)
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1. Received: {chunk_size}")
        *leading, height, width, channels = video.shape
        tile = (tile_size or 0) // self.downsampling_factor or max(height, width)
        frames = video.reshape(-1, height, width, channels)
        chunk_size = min(chunk_size, len(frames))
        results = []
        for start in range(0, len(frames), chunk_size):
            chunk = frames[start : start + chunk_size]
            # Another shape would compile another program.
            missing = chunk_size - len(chunk)
            chunk = np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)])
            coded = by_tiles(program, chunk, tile, scale_in, scale_out)
            coded = coded[: chunk_size - missing]
            results.append(coded if finish is None else finish(coded))
        result = np.concatenate(results)
        return result.reshape(*leading, *result.shape[1:])

    def _check_images(self, images):
        check_shape("images", images.shape, self.in_channels, self.downsampling_factor)
        dtype = keras.backend.standardize_dtype(images.dtype)
        if not keras.backend.is_float_dtype(dtype):
            expected = "images must be float in [-1, 1]; `encode_video` takes uint8"
            raise ValueError(f"{expected}. Received: {dtype}")


def _on_arrays(program):
    return lambda array: ops.convert_to_numpy(program(ops.convert_to_tensor(array)))


def _shown(images):
    return np.rint((images.clip(-1, 1) + 1) * 127.5).astype("uint8")


def by_tiles(
    function: Callable[[np.ndarray], np.ndarray],
    pictures: np.ndarray,
    tile: int,
    scale_in: int,
    scale_out: int,
) -> np.ndarray:
    """Apply `function` to overlapping tiles of pictures; blend its results linearly.

    Tiles `(N, h, w, C)` are all of one size: of `tile` cells a side, or of the picture
    where that is smaller. A cell is `scale_in` pixels of `pictures` `(N, H, W, C)`, and
    `scale_out` of the result.
    """
    sides = [side // scale_in for side in pictures.shape[1:3]]
    axes = []
    for side in sides:
        cells = min(tile, side)
        starts = tile_starts(side, cells)
        sizes = scale_out * side, scale_out * cells
        weights = blend_weights([scale_out * start for start in starts], *sizes)
        places = [
            [slice(scale * start, scale * (start + cells)) for start in starts]
            for scale in (scale_in, scale_out)
        ]
        axes.append(list(zip(*places, weights, strict=True)))
    blended: Any = None
    for (ys, to_ys, down), (xs, to_xs, across) in itertools.product(*axes):
        piece = function(pictures[:, ys, xs])
        if blended is None:
            shape = (len(pictures), *(scale_out * side for side in sides))
            blended = np.zeros((*shape, piece.shape[-1]), "float32")
        blended[:, to_ys, to_xs] += piece * np.outer(down, across)[..., None]
    return blended


def tile_starts(size: int, tile: int) -> list[int]:
    """Where the fewest tiles start that cover an axis and overlap enough, from 0 on."""
    overlap = tile // _OVERLAP
    count = -(-(size - overlap) // (tile - overlap))
    return [i * (size - tile) // max(count - 1, 1) for i in range(count)]


def blend_weights(starts: Sequence[int], size: int, tile: int) -> np.ndarray:
    """Weights `(tiles, tile)` along an axis: ramps in overlaps, and 1 in sum."""
    rise = (np.arange(tile) + 0.5) * _OVERLAP / tile
    weights = np.ones((len(starts), tile))
    total = np.zeros(size)
    for weight, start in zip(weights, starts, strict=True):
        if start > 0:
            np.minimum(weight, rise, out=weight)
        if start + tile < size:
            np.minimum(weight, rise[::-1], out=weight)
        total[start : start + tile] += weight
    for weight, start in zip(weights, starts, strict=True):
        weight /= total[start : start + tile]
    return weights.astype("float32")
