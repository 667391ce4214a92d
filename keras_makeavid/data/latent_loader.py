"""Batches of latent windows for training, through Grain."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from keras_makeavid.data.parallel import end_with_parent
from keras_makeavid.data.reader import LatentReader, open_dataset
from keras_makeavid.data.window_sampler import WindowSampler

LATENT_SCALE = 0.18215
# Training ends by its own count of steps.
ENDLESS = 2**48


class LatentLoader:
    """Shuffled batches of random windows of a latent dataset (spec section 4).

    A batch is a function of the seed and its step only: the same for any number of
    workers, and after a restart at any step. Every clip comes once, in a random
    window, before any comes again. Latents go to the device in half precision, six
    and a half times less traffic than finished inputs and noise.

    Args:
        source: dataset folder, or an opened dataset.
        batch_size: windows in a batch, over all shards.
        num_frames: length of a window.
        samples_per_epoch: windows in an epoch; `None` is one of each clip.
        seed: of the order and of the windows.
        scale: what the stored latents are multiplied by.
        shard_index: which part of each batch is read here, such as the number of this
            host; the shards' parts in their order are the batch.
        shard_count: number of parts.
        num_workers: processes that read ahead, besides threads; 0 for none. A script
            that uses them needs the `if __name__ == "__main__"` of `multiprocessing`.
        prefetch: batches read ahead, by each worker if there are any.

    Raises:
        FileNotFoundError: if the dataset or one of its files is missing.
        ValueError: if a clip is damaged, shorter than `num_frames` or of another size
            than the others, which names it; or if an argument makes no sense.

    Example:
        ```python
        loader = LatentLoader("dataset", batch_size=4, num_workers=2)
        for batch in loader.batches(start_step=1000):
            batch["latents"].shape  # (4, 24, 64, 64, 4)
        ```
    """

    def __init__(
        self,
        source: str | os.PathLike | LatentReader,
        *,
        batch_size: int = 1,
        num_frames: int = 24,
        samples_per_epoch: int | None = None,
        seed: int = 0,
        scale: float = LATENT_SCALE,
        shard_index: int = 0,
        shard_count: int = 1,
        num_workers: int = 0,
        prefetch: int = 2,
    ):
        self.dataset = open_dataset(source)
        self.batch_size = batch_size
        self.num_frames = num_frames
        self.samples_per_epoch = (
            len(self.dataset) if samples_per_epoch is None else samples_per_epoch
        )
        self.scale = scale
        self.shard_index = shard_index
        self.shard_count = shard_count
        self.num_workers = num_workers
        self.prefetch = prefetch
        self._check_arguments()
        self._check_clips()
        windows = [
            self.dataset.latents_shape(index)[0] - num_frames + 1
            for index in range(len(self.dataset))
        ]
        self._sampler = WindowSampler(windows, seed)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.samples_per_epoch // self.batch_size

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Read this shard's part of a batch.

        Args:
            step: number of the batch, from 0 on through all epochs.

        Returns:
            A dict of `latents`, scaled, `(B, F, H, W, C)`, and `context`
            `(B, L, D)`, both float16, where B is `batch_size / shard_count`.
        """
        rows = self.batch_size // self.shard_count
        first = step * self.batch_size + self.shard_index * rows
        frame, states = self.dataset.latents_shape(0)[1:], self.dataset.context_shape(0)
        latents = np.empty((rows, self.num_frames, *frame), "float16")
        context = np.empty((rows, *states), "float16")
        for row in range(rows):
            clip, start = self._sampler[first + row]
            window = self.dataset.latents(clip, start, start + self.num_frames)
            # Computed in single precision, whatever is stored.
            scale = np.float32(self.scale)
            np.multiply(window, scale, out=latents[row], casting="same_kind")
            context[row] = self.dataset.context(clip)
        return {"latents": latents, "context": context}

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Batch after batch without end, read ahead.

        Args:
            start_step: number of the first batch, as for `batch`.

        Yields:
            As `batch` returns.
        """
        if start_step < 0:
            raise ValueError(f"start_step must be 0 or more. Received: {start_step}")
        grain = _import_grain()
        dataset = grain.MapDataset.source(_Batches(self, start_step)).to_iter_dataset(
            grain.ReadOptions(
                num_threads=self.prefetch, prefetch_buffer_size=self.prefetch
            )
        )
        if self.num_workers:
            _let_grain_read_its_flags()
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(
                    num_workers=self.num_workers,
                    per_worker_buffer_size=max(1, self.prefetch),
                ),
                worker_init_fn=end_with_parent,
            )
        iterator = iter(dataset)
        try:
            yield from iterator
        finally:
            iterator.close()

    def _check_clips(self):
        short, sizes = [], {}
        for index, clip_id in enumerate(self.dataset.ids):
            frames, *size = self.dataset.latents_shape(index)
            context = self.dataset.context_shape(index)
            sizes.setdefault((tuple(size), tuple(context)), clip_id)
            if frames < self.num_frames:
                short.append(f"{clip_id} ({frames})")
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

    def _check_arguments(self):
        if not self.dataset.ids:
            raise ValueError(f"{self.dataset.folder} lists no clips")
        if self.num_frames < 1:
            raise ValueError(
                f"num_frames must be at least 1. Received: {self.num_frames}"
            )
        if not 1 <= self.batch_size <= self.samples_per_epoch:
            raise ValueError(
                "batch_size must be at least 1 and at most the samples of an epoch "
                f"({self.samples_per_epoch}). Received: {self.batch_size}"
            )
        if self.shard_count < 1 or self.batch_size % self.shard_count:
            raise ValueError(
                f"batch_size must be a multiple of shard_count. Received: batch_size="
                f"{self.batch_size}, shard_count={self.shard_count}"
            )
        if not 0 <= self.shard_index < self.shard_count:
            raise ValueError(
                f"shard_index must be from 0 to {self.shard_count - 1}. Received: "
                f"{self.shard_index}"
            )
        if self.num_workers < 0 or self.prefetch < 0:
            raise ValueError(
                "num_workers and prefetch must be 0 or more. Received: num_workers="
                f"{self.num_workers}, prefetch={self.prefetch}"
            )


class _Batches:
    """The batches from a step on, as the sequence that Grain reads."""

    def __init__(self, loader, start_step):
        self._loader = loader
        self._start_step = start_step

    def __len__(self):
        return ENDLESS

    def __getitem__(self, index):
        return self._loader.batch(self._start_step + index)


def _import_grain():
    try:
        import grain
    except ImportError as error:
        raise ImportError(
            "Training reads its data through Grain: pip install 'keras-makeavid[train]'"
        ) from error
    return grain


def _let_grain_read_its_flags():
    """Grain's worker processes take settings from absl's flags, even those of nobody.

    Without absl's `app.run` they are never parsed, and reading them is an error.
    """
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
