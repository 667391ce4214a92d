"""Which clips are not worth training on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClipFilter:
    """The least that a clip must have.

    Args:
        min_frames: frames, as encoded.
        min_size: pixels of the shorter side, in the file.
        min_fps: frames a second, in the file.

    Raises:
        ValueError: if one of them is negative.

    Example:
        ```python
        ClipFilter(min_frames=24).of_length(20)  # "20 frames, fewer than 24"
        ```
    """

    min_frames: int = 0
    min_size: int = 0
    min_fps: float = 0.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more. Received: {value!r}")

    def of_source(self, height: int, width: int, fps: float) -> str | None:
        """Why to drop a clip by what its file's header tells.

        Args:
            height: rows of its frames.
            width: columns.
            fps: frames a second.

        Returns:
            The reason, or `None` to keep it.
        """
        if min(height, width) < self.min_size:
            return f"{width} x {height} pixels, smaller than {self.min_size}"
        if fps < self.min_fps:
            return f"{fps:g} frames a second, fewer than {self.min_fps:g}"
        return None

    def of_length(self, frames: int) -> str | None:
        """Why to drop a clip by its length, or `None` to keep it."""
        if frames < self.min_frames:
            return f"{frames} frames, fewer than {self.min_frames}"
        return None
