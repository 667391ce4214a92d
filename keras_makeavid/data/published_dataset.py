"""Windows of latent clips, read by memory map."""

from __future__ import annotations

import os

import numpy as np

from keras_makeavid.data.layout import PublishedLayout

LATENT_SCALE = 0.18215


class LatentWindows:
    """Random access to windows of the clips of a published-layout dataset.

    Every clip is checked by its header when this is made; a window reads its own
    bytes only (spec section 7).

    Args:
        folder: dataset folder, which holds `data/`.
        num_frames: length of a window in frames.
        scale: what the stored latents are multiplied by (spec section 3).

    Raises:
        FileNotFoundError: if the dataset or one of its files is missing.
        ValueError: if a clip is damaged, shorter than `num_frames`, or of another
            size than the others; names them.

    Example:
        ```python
        windows = LatentWindows("dataset", num_frames=24)
        latents, context = windows.window(0, start=10)
        ```
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        num_frames: int = 24,
        scale: float = LATENT_SCALE,
    ):
        if num_frames < 1:
            raise ValueError(f"num_frames must be at least 1. Received: {num_frames}")
        self._layout = PublishedLayout(folder)
        self.num_frames = num_frames
        self.scale = scale
        self.ids = self._layout.read_ids()
        if not self.ids:
            raise ValueError(f"{folder} lists no clips")
        self._check_clips()

    def __len__(self) -> int:
        return len(self.ids)

    def clip_length(self, index: int) -> int:
        """Number of frames of a clip."""
        return self._lengths[index]

    def window(self, index: int, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Read one window.

        Args:
            index: which clip, by its place in `ids`.
            start: first frame.

        Returns:
            Scaled latents `(num_frames, H, W, C)` and text states `(L, D)`, float32.

        Raises:
            ValueError: if the clip has no such window.
        """
        last = self._lengths[index] - self.num_frames
        if not 0 <= start <= last:
            raise ValueError(
                f"Clip {self.ids[index]} has windows that start at 0 to {last}. "
                f"Received: start={start}"
            )
        clip = _open(self._layout.video(self.ids[index]))
        frames = np.asarray(clip[start : start + self.num_frames], "float32")
        latents = np.moveaxis(frames, 1, -1) * np.float32(self.scale)
        prompt = _open(self._layout.prompt(self.ids[index]))
        return latents, np.asarray(prompt[0], "float32")

    def _check_clips(self):
        self._lengths, short, sizes = [], [], {}
        for clip_id in self.ids:
            clip = _open(self._layout.video(clip_id))
            prompt = _open(self._layout.prompt(clip_id))
            if clip.ndim != 4 or prompt.ndim != 3 or prompt.shape[0] != 1:
                raise ValueError(
                    f"Clip {clip_id} must have latents (F, C, H, W) and text states "
                    f"(1, L, D). Received: {clip.shape} and {prompt.shape}"
                )
            self._lengths.append(len(clip))
            sizes.setdefault((clip.shape[1:], prompt.shape), clip_id)
            if len(clip) < self.num_frames:
                short.append(f"{clip_id} ({len(clip)})")
        if short:
            raise ValueError(
                f"{len(short)} clips are shorter than {self.num_frames} frames: "
                f"{', '.join(short[:20])}"
            )
        if len(sizes) > 1:
            raise ValueError(
                "All clips of a dataset must have latents and text states of one "
                f"size. Received, with the first clip of each: {sizes}"
            )


def _open(path) -> np.ndarray:
    """Memory-map an array of numbers; its header is all that is read."""
    if not path.is_file():
        raise FileNotFoundError(f"The dataset lacks {path}")
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        # A damaged header makes NumPy fail with any of a dozen types of error.
        raise ValueError(f"{path} is damaged: {error}") from error
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{path} must hold floating-point numbers. Received: {array.dtype}"
        )
    return array
