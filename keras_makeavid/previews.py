"""Pictures of latents while they are denoised: by a tiny decoder, or a linear map."""

import dataclasses
from collections.abc import Callable

import numpy as np
from keras import ops

from keras_makeavid.models import AutoencoderKL, AutoencoderTiny
from keras_makeavid.tensor import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Preview:
    """How a running generation is shown: by `tiny`, or else by `colours`."""

    show: Callable[[int, np.ndarray], None]  # Takes the steps done, and the frames.
    every: int  # Steps between two calls.
    tiny: AutoencoderTiny | None = None
    colours: np.ndarray | None = None  # As of `fit_colours`.


def fit_colours(vae: AutoencoderKL, latents: np.ndarray) -> np.ndarray:
    """Fit a linear map `(B, C + 1, 3)` of latents `(B, h, w, C)`, the constant last.

    Latents of the video's own first picture fit far better than random ones: with the
    small preset the error of the colours was 0.06 in place of 0.25, of 2.
    """
    # A frame at a time, as the video later on: the same program.
    pictures = vae.decode_video(latents[:, None])[:, 0] / np.float32(127.5) - 1
    batch, height, width, _ = latents.shape
    factor = vae.downsampling_factor
    pictures = pictures.reshape(batch, height, factor, width, factor, 3)
    targets = pictures.mean((2, 4)).reshape(batch, -1, 3)
    inputs = np.pad(latents, [(0, 0)] * 3 + [(0, 1)], constant_values=1)
    inputs = inputs.reshape(batch, -1, inputs.shape[-1])
    fits = [np.linalg.lstsq(x, y)[0] for x, y in zip(inputs, targets, strict=True)]
    return np.stack(fits).astype("float32")


def preview_frames(
    latents: Tensor, tiny: AutoencoderTiny | None, colours: Tensor
) -> Tensor:
    """Decode latents `(B, F, h, w, C)` to uint8 frames by `tiny`, or by `colours`."""
    if tiny is None:
        frames = ops.einsum("bfhwc,bcd->bfhwd", latents, colours[:, :-1])
        frames = frames + colours[:, None, None, -1:]
    else:
        shape = ops.shape(latents)
        images = ops.reshape(latents, (-1, 1, *shape[2:]))
        # One at a time: all of a video's would take gigabytes.
        frames = ops.map(tiny.decode, images)
        frames = ops.reshape(frames, (*shape[:2], *ops.shape(frames)[2:]))
    frames = (ops.clip(ops.cast(frames, "float32"), -1, 1) + 1) * 127.5
    return ops.cast(ops.round(frames), "uint8")
