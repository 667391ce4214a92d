"""What a user may pass to `generate`, brought into the shapes the model takes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from keras_makeavid.text.tokenizer import as_texts
from keras_makeavid.validation import shown
from keras_makeavid.video import cover_crop

_MAX_SEED = 2**63
# A prediction of float16 times this is finite still.
_MAX_SCALE = 1000
_MAX_BYTES = 2**34


def as_prompts(
    prompts: str | Sequence[str], negative_prompts: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Return prompts, and as many negative ones: one for all, one for each, or none."""
    texts = as_texts("prompts", prompts)
    if negative_prompts is None:
        negative_prompts = ""
    negatives = as_texts("negative_prompts", negative_prompts)
    if isinstance(negative_prompts, str):
        negatives = negatives * len(texts)
    if len(negatives) != len(texts):
        raise ValueError(
            "negative_prompts must be one string or one for each of the "
            f"{len(texts)} prompts. Received: {len(negatives)}"
        )
    return texts, negatives


def as_seeds(seed: int | Sequence[int] | None, batch: int) -> list[int]:
    """Return a seed for each sample: `seed + i`, those of a list, or drawn ones."""
    if seed is None:
        return [secrets.randbelow(2**32) for _ in range(batch)]
    if is_integer(seed):
        seeds = [int(seed) + i for i in range(batch)]
    else:
        seeds = []
        if isinstance(seed, list | tuple | range | np.ndarray) and np.ndim(seed) == 1:
            seeds = list(seed)
    valid = all(is_integer(s) and 0 <= s < _MAX_SEED for s in seeds)
    if len(seeds) != batch or not valid:
        raise ValueError(
            "seed must be None, an integer from 0, or a list of one for each of the "
            f"{batch} prompts. Received: {shown(seed)}"
        )
    return [int(s) for s in seeds]


def as_hint_images(images, batch: int, height: int, width: int) -> np.ndarray:
    """Return hint images as float32 `(B, height, width, 3)` in `[-1, 1]`.

    They are uint8 `(H, W, 3)`, one for all samples, or `(B, H, W, 3)`, or a list of any
    sizes, of arrays or PIL images. Each is scaled to cover and cropped to the centre.
    """
    images = _for_each_sample(images, batch, rank=3)
    fits = all(
        image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[-1] == 3
        and image.size > 0
        for image in images
    )
    if len(images) != batch or not fits:
        raise ValueError(
            "hint_image must be uint8 (H, W, 3), or (B, H, W, 3) with one for each of "
            f"the {batch} prompts. Received: {_described(images)}"
        )
    images = np.stack([cover_crop(image, height, width) for image in images])
    return images.astype("float32") / 127.5 - 1.0


def as_masks(masks, batch: int, height: int, width: int) -> np.ndarray:
    """Return masks as float32 `(B, height, width, 1)`: 1 is to be filled, 0 is given.

    They are `(H, W)`, one for all samples, or `(B, H, W)`, or a list of any sizes, each
    with a last axis of 1 or without: bool, uint8 (128 and above is 1) or float in
    `[0, 1]` (0.5 and above is 1).
    """
    if isinstance(masks, list | tuple):
        masks = [_without_channel(np.asarray(mask)) for mask in masks]
    else:
        masks = _without_channel(np.asarray(masks))
    masks = _for_each_sample(masks, batch, rank=2)
    fits = all(mask.ndim == 2 and mask.size > 0 for mask in masks)
    if len(masks) != batch or not fits:
        raise ValueError(
            "mask_image must be (H, W), or (B, H, W) with one for each of the "
            f"{batch} prompts. Received: {_described(masks)}"
        )
    binary = [(mask >= _mask_threshold(mask)).astype("uint8") for mask in masks]
    fitted = [cover_crop(mask, height, width, nearest=True) for mask in binary]
    return np.stack(fitted)[..., None].astype("float32")


def _without_channel(mask):
    return mask[..., 0] if mask.ndim > 2 and mask.shape[-1] == 1 else mask


def _mask_threshold(mask):
    if mask.dtype == bool:
        return True
    if mask.dtype == np.uint8:
        return 128
    if np.issubdtype(mask.dtype, np.floating):
        # A NaN fails this comparison too.
        if not (mask.min() >= 0 and mask.max() <= 1):
            raise ValueError(
                "A float mask_image must lie in [0, 1]. Received values from "
                f"{mask.min()} to {mask.max()}"
            )
        return 0.5
    raise ValueError(f"mask_image must be bool, uint8 or float. Received: {mask.dtype}")


def _for_each_sample(pictures, batch: int, rank: int) -> list[np.ndarray]:
    """A list's pictures, an array's, or the only one `batch` times."""
    if isinstance(pictures, list | tuple):
        return [np.asarray(picture) for picture in pictures]
    pictures = np.asarray(pictures)
    if pictures.ndim <= rank:
        return [pictures] * batch
    return list(pictures)


def _described(pictures) -> str:
    kinds = {
        f"{each.dtype} {each.shape}" if each.ndim else shown(each.item())
        for each in pictures
    }
    return f"{len(pictures)} of {' and '.join(sorted(kinds)) or 'nothing'}"


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, which `True` is not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def as_count(name: str, value: Any) -> int:
    """Return a positive integer, of NumPy or Python, as one of Python."""
    if not is_integer(value) or value < 1:
        raise ValueError(f"{name} must be a positive integer. Received: {shown(value)}")
    return int(value)


def as_scale(name: str, value: Any) -> float:
    """Return a number that a prediction may be multiplied by as one of Python."""
    number = is_integer(value) or isinstance(value, float | np.floating)
    if not number or not abs(value) <= _MAX_SCALE:
        raise ValueError(
            f"{name} must be a finite number from -{_MAX_SCALE} to {_MAX_SCALE}. "
            f"Received: {shown(value)}"
        )
    return float(value)


def as_interval(name: str, value: Any) -> tuple[float, float]:
    """Return two numbers of `[0, 1]`, the lower one first."""
    pair = list(value) if isinstance(value, list | tuple) else []
    numbers = [is_integer(x) or isinstance(x, float | np.floating) for x in pair]
    if numbers != [True, True] or not 0 <= pair[0] <= pair[1] <= 1:
        raise ValueError(
            f"{name} must be two numbers, 0 <= low <= high <= 1. "
            f"Received: {shown(value)}"
        )
    return float(pair[0]), float(pair[1])


def check_flag(name: str, value: Any, other: str = "") -> None:
    """Refuse what is neither true nor false, by a `ValueError`."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False{other}. Received: {value!r}")


def check_videos(batch: int, num_frames: int, height: int, width: int) -> None:
    """Refuse more frames than anyone wants at once, by a `ValueError`."""
    if batch * num_frames * height * width * 3 > _MAX_BYTES:
        raise ValueError(
            f"The videos of a call must be of at most {_MAX_BYTES:,} bytes. Received: "
            f"{shown(batch)} of {shown(num_frames)} frames of {shown(width)} x "
            f"{shown(height)} pixels"
        )
