"""The check of the shapes that the models take."""

from __future__ import annotations

from collections.abc import Sequence


def check_shape(
    name: str, shape: Sequence[int | None], channels: int, factor: int = 1
) -> None:
    """Refuse what is neither `(B, H, W, channels)` nor `(B, F, H, W, channels)`.

    `None` is a size not known yet. Height and width must be multiples of `factor`. The
    error speaks of `name` and says which size would fit.
    """
    shape = tuple(shape)
    if len(shape) not in (4, 5) or shape[-1] != channels:
        raise ValueError(
            f"{name} must be a video (B, F, H, W, {channels}) or images "
            f"(B, H, W, {channels}). Received: {shape}"
        )
    for axis, size in zip(("height", "width"), shape[-3:-1], strict=True):
        if size is not None and (size % factor or size == 0):
            below = max(size // factor, 1) * factor
            raise ValueError(
                f"The {axis} of {name} must be a multiple of {factor}, such as "
                f"{below} or {below + factor}. Received: {shape}"
            )
    if 0 in shape:
        raise ValueError(f"{name} must not be empty. Received: {shape}")
