"""Batches by number, read ahead through Grain, and the order of what is in them."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from keras_makeavid.data.parallel import worker_pool

# Training ends by its own count of steps.
_ENDLESS = 2**48
# Two streams: NumPy's are the same for [s, t] and [s, t, 0].
_ORDER, _WINDOW = 1, 2


class BatchLoader(abc.ABC):
    """What training reads: batch `step`, whenever it is asked for.

    A subclass says what a batch is. It must be a function of its settings and the
    step only, so that it is the same for any number of workers and after a restart at
    any step.

    Args:
        batch_size: Samples in a batch, over all shards.
        samples_per_epoch: Samples in an epoch.
        shard_index: Which part of each batch is read here, such as the number of this
            host; the shards' parts in their order are the batch.
        shard_count: Number of parts.
        num_workers: Processes that read ahead, besides threads; 0 for none. A script
            that uses them needs the `if __name__ == "__main__"` of `multiprocessing`.
        prefetch: Batches read ahead, by each worker if there are any.

    Raises:
        ValueError: An argument makes no sense.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        samples_per_epoch: int,
        shard_index: int = 0,
        shard_count: int = 1,
        num_workers: int = 0,
        prefetch: int = 2,
    ):
        if not 1 <= batch_size <= samples_per_epoch:
            raise ValueError(
                "batch_size must be at least 1 and at most the samples of an epoch "
                f"({samples_per_epoch}). Received: {batch_size}"
            )
        if shard_count < 1 or batch_size % shard_count:
            raise ValueError(
                "batch_size must be a multiple of shard_count. Received: batch_size="
                f"{batch_size}, shard_count={shard_count}"
            )
        if not 0 <= shard_index < shard_count:
            raise ValueError(
                f"shard_index must be from 0 to {shard_count - 1}. Received: "
                f"{shard_index}"
            )
        if num_workers < 0 or prefetch < 0:
            raise ValueError(
                "num_workers and prefetch must be 0 or more. Received: num_workers="
                f"{num_workers}, prefetch={prefetch}"
            )
        self.batch_size = batch_size
        self.samples_per_epoch = samples_per_epoch
        self.shard_index = shard_index
        self.shard_count = shard_count
        self.num_workers = num_workers
        self.prefetch = prefetch

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.samples_per_epoch // self.batch_size

    def samples_of(self, step: int) -> range:
        """Numbers of the samples of this shard's part of batch `step`."""
        rows = self.batch_size // self.shard_count
        first = step * self.batch_size + self.shard_index * rows
        return range(first, first + rows)

    @abc.abstractmethod
    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Read arrays by name, each with a row for each of `samples_of(step)`.

        Steps count from 0 on through all epochs.
        """

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Give batch after batch without end, from `start_step` on, read ahead."""
        if start_step < 0:
            raise ValueError(f"start_step must be 0 or more. Received: {start_step}")
        try:
            import grain
        except ImportError as error:
            raise ImportError(
                "Training reads its data through Grain: "
                "pip install 'keras-makeavid[train]'"
            ) from error
        # Each worker is asked by a thread that waits for it.
        ahead = max(self.num_workers, self.prefetch * max(1, self.num_workers))
        options = grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead)
        steps = grain.MapDataset.range(start_step, _ENDLESS)
        with self._reading() as read:
            iterator = iter(steps.map(read).to_iter_dataset(options))
            try:
                yield from iterator
            finally:
                iterator.close()

    @contextmanager
    def _reading(self) -> Iterator[Callable[[int], dict[str, np.ndarray]]]:
        """`batch`, run in worker processes if there are to be any."""
        if not self.num_workers:
            yield self.batch
            return
        # Not Grain's: they have their settings from absl's flags, which only a program
        # of absl may parse.
        with worker_pool(self.num_workers, _keep, self) as pool:
            yield lambda step: pool.submit(_kept_batch, step).result()


def _keep(loader):
    """Keep in a worker process the one loader that it has: it is sent there once."""
    global _kept
    _kept = loader


def _kept_batch(step):
    return _kept.batch(step)


class WindowSampler:
    """An endless shuffled order of random windows, with random access.

    The samples go in passes: each pass holds one random window of every clip, in an
    order of its own. Sample `i` is a function of the seed and `i` only. `windows` are
    the numbers of windows of the clips; one begins at each of a clip's first frames.
    """

    def __init__(self, windows: Sequence[int], seed: int = 0):
        self._windows = np.asarray(windows)
        self._seed = seed
        # Two: a batch may lie across the border of two passes.
        self._order = functools.lru_cache(maxsize=2)(self._shuffled)

    def __getitem__(self, sample: int) -> tuple[int, int]:
        """Clip and first frame of a sample."""
        turn, place = divmod(sample, len(self._windows))
        clip = int(self._order(turn)[place])
        rng = np.random.default_rng([_WINDOW, self._seed, turn, place])
        return clip, int(rng.integers(self._windows[clip]))

    def __reduce__(self):
        # A cache cannot be sent to other processes.
        return type(self), (self._windows, self._seed)

    def _shuffled(self, turn):
        rng = np.random.default_rng([_ORDER, self._seed, turn])
        return rng.permutation(len(self._windows))
