"""What a user may pass to `generate`, brought into the shapes the model takes."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from keras_makeavid.sampling import NO_FREEU
from keras_makeavid.text.tokenizer import as_texts
from keras_makeavid.validation import check_choice, refusal, shown
from keras_makeavid.video import cover_crop
from keras_makeavid.windows import BLENDS, Windows

_MAX_SEED = 2**63
# A prediction of float16 times this is finite still.
_MAX_SCALE = 1000
_MAX_BYTES = 2**34


def as_prompts(
    prompts: str | Mapping[int, str] | Sequence[str | Mapping[int, str]],
    negative_prompts: str | Sequence[str] | None,
) -> tuple[list[dict[int, str]], list[str]]:
    """Return prompts, and as many negative ones: one for all, one for each, or none.

    A prompt is a dict of texts by frame; one that does not change has frame 0 alone.
    """
    if isinstance(prompts, Mapping):
        prompts = [prompts]
    texts: list[dict[int, str]] = []
    for prompt in as_list_of_prompts(prompts):
        if not isinstance(prompt, Mapping):
            prompt = {0: prompt}
        if not prompt or not all(map(is_integer, prompt)):
            raise ValueError(
                "A prompt that changes must be a dict of texts by frame, such as "
                f"{{0: 'a seed', 16: 'a tree'}}. Received: {shown(prompt)}"
            )
        words = as_texts("prompts", list(prompt.values()))
        texts.append({int(f): word for f, word in zip(prompt, words, strict=True)})
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


def as_list_of_prompts(prompts: Any) -> list[Any]:
    """Return the prompts of a list, or the only one, as a list."""
    if isinstance(prompts, list | tuple) and any(
        isinstance(p, Mapping) for p in prompts
    ):
        return list(prompts)
    return as_texts("prompts", prompts)


def over_time(
    prompts: Sequence[Mapping[int, str]], num_frames: int
) -> tuple[list[list[str]], np.ndarray | None]:
    """Lay prompts that change over the frames: texts of each, and their shares.

    Shares are float32 `(B, F, K)`, or `None` if no prompt changes.
    """
    count = max(map(len, prompts))
    rows, shares = [], np.zeros((len(prompts), num_frames, count), "float32")
    for row, prompt in enumerate(prompts):
        at = {frame_index("The frames of prompts", f, num_frames): f for f in prompt}
        if len(at) < len(prompt):
            raise refusal("A prompt must have one text at a frame", prompt)
        places = sorted(at)
        texts = [prompt[at[place]] for place in places]
        rows.append(texts + texts[-1:] * (count - len(texts)))
        for k, corner in enumerate(np.eye(len(places))):
            shares[row, :, k] = np.interp(np.arange(num_frames), places, corner)
    return rows, shares if count > 1 else None


def frame_index(name: str, frame: Any, num_frames: int) -> int:
    """Return the number of a frame, counted from 0, or from -1 for the last one."""
    if not is_integer(frame) or not -num_frames <= frame < num_frames:
        problem = f"{name} must be from 0 to {num_frames - 1}, or from -1, the last one"
        raise ValueError(f"{problem}, to {-num_frames}. Received: {shown(frame)}")
    return int(frame) % num_frames


def as_windows(
    window: Any, overlap: Any, blend: Any, num_frames: int
) -> Windows | None:
    """Return the windows of a video; `None` if it is made at once."""
    if window is None:
        return None
    window = as_count("window", window)
    if overlap is None:
        overlap = window // 4
    if not is_integer(overlap) or not 0 <= overlap < window:
        problem = f"overlap must be an integer from 0 to {window - 1}"
        raise refusal(f"{problem}, below window", overlap)
    check_choice("blend", blend, BLENDS)
    if window > num_frames:
        raise refusal(f"window must be at most num_frames, {num_frames}", window)
    return Windows.over(num_frames, window, int(overlap), blend)


def as_videos(
    videos: Any, batch: int, num_frames: Any, height: int, width: int
) -> np.ndarray:
    """Return a video for all samples, or one each, as `(B, F, height, width, 3)`."""
    videos = np.asarray(videos)
    if videos.ndim == 4:
        videos = videos[None]
    fits = videos.dtype == np.uint8 and videos.ndim == 5 and videos.shape[-1] == 3
    if not fits or not videos.size or len(videos) not in (1, batch):
        raise ValueError(
            "video must be uint8 (F, H, W, 3), or (B, F, H, W, 3) with one for each of "
            f"the {batch} prompts. Received: {videos.dtype} {videos.shape}"
        )
    if num_frames is not None and num_frames != videos.shape[1]:
        expected = f"num_frames must be that of the video, {videos.shape[1]}, or None"
        raise refusal(expected, num_frames)
    frames = [cover_crop(frame, height, width) for video in videos for frame in video]
    videos = np.stack(frames).reshape(*videos.shape[:2], height, width, 3)
    return np.broadcast_to(videos, (batch, *videos.shape[1:]))


def as_keyframes(
    hint_image: Any,
    mask_image: Any,
    keyframes: Any,
    num_frames: int,
    size: tuple[int, int, int],
    latent_shape: tuple[int, ...],
) -> dict[int, tuple[np.ndarray, np.ndarray | None]]:
    """Return pictures that are given, and masks or `None`, by frame; or latents.

    The `size` is that of the batch, height and width.
    """
    if keyframes is None:
        if hint_image is None and mask_image is not None:
            expected = "mask_image says which part of hint_image to keep"
            raise ValueError(f"{expected}. Received: mask_image without hint_image")
        if hint_image is None:
            return {}
        masks = None if mask_image is None else as_masks(mask_image, *size)
        return {0: (as_hint_images(hint_image, *size), masks)}
    if not isinstance(keyframes, Mapping) or not keyframes:
        rule = "a dict of pictures by frame, such as {0: first, -1: last}"
        raise ValueError(f"keyframes must be {rule}. Received: {shown(keyframes)}")
    if hint_image is not None or mask_image is not None:
        raise ValueError(
            "keyframes take the place of hint_image, which is keyframes={0: image}, "
            "and have no mask. Received: both"
        )
    found: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
    for frame, image in keyframes.items():
        place = frame_index("The frames of keyframes", frame, num_frames)
        if place in found:
            wanted = "keyframes must have one picture at a frame"
            raise ValueError(f"{wanted}. Received: two at {place}")
        if np.shape(image) == (size[0], *latent_shape[1:]):
            images = np.asarray(image, "float32")
        else:
            images = as_hint_images(image, *size, name=f"keyframes[{frame}]")
        found[place] = images, None
    return found


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


def as_hint_images(
    images, batch: int, height: int, width: int, name: str = "hint_image"
) -> np.ndarray:
    """Return hint images as float32 `(B, height, width, 3)` in `[-1, 1]`.

    They are uint8 `(H, W, 3)`, one for all, or `(B, H, W, 3)`, or a list of any sizes,
    of arrays or PIL images. Each is scaled to cover and cropped to the centre.
    """
    images = _for_each_sample(images, batch, rank=3)
    fits = all(i.dtype == np.uint8 and i.shape[2:] == (3,) and i.size for i in images)
    if len(images) != batch or not fits:
        raise ValueError(
            f"{name} must be uint8 (H, W, 3), or (B, H, W, 3) with one for each of "
            f"the {batch} prompts. Received: {_described(images)}"
        )
    images = np.stack([cover_crop(image, height, width) for image in images])
    return images.astype("float32") / 127.5 - 1.0


def as_masks(masks, batch: int, height: int, width: int) -> np.ndarray:
    """Return masks as float32 `(B, height, width, 1)`: 1 is to be filled, 0 is given.

    They are `(H, W)`, one for all, or `(B, H, W)`, or a list of any sizes, a last axis
    of 1 or none: bool, uint8 (1 from 128 on) or float in `[0, 1]` (1 from 0.5 on).
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
    binary = [_is_filled(mask).astype("uint8") for mask in masks]
    fitted = [cover_crop(mask, height, width, nearest=True) for mask in binary]
    return np.stack(fitted)[..., None].astype("float32")


def _without_channel(mask):
    return mask[..., 0] if mask.ndim > 2 and mask.shape[-1] == 1 else mask


def _is_filled(mask):
    if mask.dtype == np.uint8:
        mask = mask / 255
    elif mask.dtype != bool and not np.issubdtype(mask.dtype, np.floating):
        expected = "mask_image must be bool, uint8 or float"
        raise ValueError(f"{expected}. Received: {mask.dtype}")
    # A NaN fails this comparison too.
    if not (mask.min() >= 0 and mask.max() <= 1):
        raise ValueError(
            "A float mask_image must lie in [0, 1]. Received values from "
            f"{mask.min()} to {mask.max()}"
        )
    return mask >= 0.5


def _for_each_sample(pictures, batch: int, rank: int) -> list[np.ndarray]:
    """A list's pictures, an array's, or the only one `batch` times."""
    if isinstance(pictures, list | tuple):
        return [np.asarray(picture) for picture in pictures]
    pictures = np.asarray(pictures)
    if pictures.ndim <= rank:
        return [pictures] * batch
    return list(pictures)


def _described(pictures) -> str:
    kinds = {f"{x.dtype} {x.shape}" if x.ndim else shown(x.item()) for x in pictures}
    return f"{len(pictures)} of {' and '.join(sorted(kinds)) or 'nothing'}"


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, which `True` is not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def as_count(name: str, value: Any, default: int | None = None) -> int:
    """Return a positive integer, or in place of `None` the default, as a Python one."""
    value = default if value is None else value
    if not is_integer(value) or value < 1:
        raise ValueError(f"{name} must be a positive integer. Received: {shown(value)}")
    return int(value)


def as_scale(name: str, value: Any, default: float | None = None) -> float:
    """Return what a prediction may be multiplied by; in place of `None` the default."""
    value = default if value is None else value
    number = is_integer(value) or isinstance(value, float | np.floating)
    if not number or not abs(value) <= _MAX_SCALE:
        raise refusal(
            f"{name} must be a finite number from -{_MAX_SCALE} to {_MAX_SCALE}", value
        )
    return float(value)


def as_interval(name: str, value: Any) -> tuple[float, float]:
    """Return two numbers of `[0, 1]`, the lower one first."""
    pair = list(value) if isinstance(value, list | tuple) else []
    numbers = [is_integer(x) or isinstance(x, float | np.floating) for x in pair]
    if numbers != [True, True] or not 0 <= pair[0] <= pair[1] <= 1:
        raise refusal(f"{name} must be two numbers, 0 <= low <= high <= 1", value)
    return float(pair[0]), float(pair[1])


def as_factors(name: str, value: Any) -> tuple[float, ...]:
    """Return the four factors of FreeU; `None` is those that change nothing."""
    if value is None:
        return NO_FREEU
    if not isinstance(value, list | tuple) or len(value) != len(NO_FREEU):
        raise ValueError(
            f"{name} must be four numbers (b1, b2, s1, s2), such as "
            f"(1.5, 1.6, 0.9, 0.2), or None. Received: {shown(value)}"
        )
    return tuple(as_scale(name, number) for number in value)


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
