"""Batches of latent windows for training, through Grain."""

from __future__ import annotations

import os

import numpy as np

from keras_makeavid.data.batch_loader import BatchLoader, WindowSampler
from keras_makeavid.data.datasets import open_dataset
from keras_makeavid.data.reader import LatentReader


class LatentLoader(BatchLoader):
    """Shuffled batches of random windows of a latent dataset.

    A batch is a function of the seed and its step only: the same for any number of
    workers, and after a restart at any step. Every clip comes once, in a random
    window, before any comes again. Latents go to the device as they are stored and in
    half precision, six and a half times less traffic than finished inputs and noise:
    the training model multiplies them by the VAE's scale there.

    Args:
        source: Dataset folder, or an opened dataset.
        num_frames: Length of a window.
        batch_size: Windows in a batch, over all shards.
        samples_per_epoch: Windows in an epoch; `None` is one of each clip.
        seed: Of the order and of the windows.
        **kwargs: `shard_index`, `shard_count`, `num_workers` and `prefetch`, see
            `BatchLoader`.

    Raises:
        FileNotFoundError: The dataset or one of its files is missing.
        ValueError: A clip is damaged, shorter than `num_frames` or of another size
            than the others, which names it; or an argument makes no sense.

    Example:
        ```python
        loader = LatentLoader("dataset", num_frames=24, batch_size=4, num_workers=2)
        for batch in loader.batches(start_step=1000):
            batch["latents"].shape  # (4, 24, 64, 64, 4)
        ```
    """

    def __init__(
        self,
        source: str | os.PathLike | LatentReader,
        *,
        num_frames: int,
        batch_size: int = 1,
        samples_per_epoch: int | None = None,
        seed: int = 0,
        **kwargs: int,
    ):
        self.dataset = open_dataset(source)
        if not self.dataset.ids:
            raise ValueError(f"{self.dataset.folder} lists no clips")
        if samples_per_epoch is None:
            samples_per_epoch = len(self.dataset)
        super().__init__(
            batch_size=batch_size, samples_per_epoch=samples_per_epoch, **kwargs
        )
        if num_frames < 1:
            raise ValueError(f"num_frames must be at least 1. Received: {num_frames}")
        self.num_frames = num_frames
        lengths = _checked_lengths(self.dataset, num_frames)
        windows = [length - num_frames + 1 for length in lengths]
        self._sampler = WindowSampler(windows, seed)

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Read this shard's part of batch `step`, from 0 on through all epochs.

        Returns:
            A dict of `latents` `(B, F, H, W, C)`, as stored, and `context`
            `(B, L, D)`, both float16, where B is `batch_size / shard_count`.
        """
        samples = self.samples_of(step)
        frame, states = self.dataset.latents_shape(0)[1:], self.dataset.context_shape(0)
        latents = np.empty((len(samples), self.num_frames, *frame), "float16")
        context = np.empty((len(samples), *states), "float16")
        for row, sample in enumerate(samples):
            clip, start = self._sampler[sample]
            latents[row] = self.dataset.latents(clip, start, start + self.num_frames)
            context[row] = self.dataset.context(clip)
        return {"latents": latents, "context": context}


def _checked_lengths(dataset: LatentReader, least: int) -> list[int]:
    """Frames of each clip, of which all have `least` and are of one size."""
    lengths, short = [], []
    sizes: dict[tuple, str] = {}
    for index, clip_id in enumerate(dataset.ids):
        frames, *size = dataset.latents_shape(index)
        lengths.append(frames)
        sizes.setdefault((tuple(size), dataset.context_shape(index)), clip_id)
        if frames < least:
            short.append(f"{clip_id} ({frames})")
    if short:
        raise ValueError(
            f"{len(short)} clips are shorter than {least} frames: "
            f"{', '.join(short[:20])}"
        )
    if len(sizes) > 1:
        raise ValueError(
            "All clips of a dataset must have latents and text states of one "
            f"size. Received, with the first clip of each: {sizes}"
        )
    return lengths
