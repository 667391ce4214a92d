"""Batches by number, read ahead through Grain: of latent windows, or of pictures."""

import abc
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_makeavid.data.captions import PICTURE_SUFFIXES, find_files, read_captions
from keras_makeavid.data.datasets import open_dataset
from keras_makeavid.data.reader import LatentReader
from keras_makeavid.parallel import worker_pool
from keras_makeavid.validation import check_least, refusal
from keras_makeavid.video.pictures import opened_picture, read_image

# Training ends by its own count of steps.
_ENDLESS = 2**48
# Two streams: NumPy's are the same for [s, t] and [s, t, 0].
_ORDER, _WINDOW = 1, 2


class BatchLoader(abc.ABC):
    """What training reads: batch `step`, whenever it is asked for.

    A batch is a function of the loader's settings and the step only: the same for any
    number of workers, and after a restart at any step.

    Args:
        batch_size: Samples in a batch, over all shards.
        samples_per_epoch: Samples in an epoch.
        shard_index: Which part of each batch is read here, such as this host's number.
        shard_count: Number of parts.
        num_workers: Processes that read ahead, besides threads; 0 for none. A script
            needs `if __name__ == "__main__"` for them.
        prefetch: Batches read ahead, by each worker if there are any.
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
            most = f"the samples of an epoch ({samples_per_epoch})"
            raise refusal(f"batch_size must be from 1 to {most}", batch_size)
        if shard_count < 1 or batch_size % shard_count:
            expected = f"batch_size must be a multiple of shard_count={shard_count}"
            raise refusal(expected, batch_size)
        if not 0 <= shard_index < shard_count:
            expected = f"shard_index must be from 0 to {shard_count - 1}"
            raise refusal(expected, shard_index)
        check_least(0, num_workers=num_workers, prefetch=prefetch)
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
        """Read arrays by name, each with a row for each of `samples_of(step)`."""

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Give batch after batch without end, from `start_step` on, read ahead."""
        check_least(0, start_step=start_step)
        try:
            import grain
        except ImportError as error:
            expected = "Training reads by Grain: pip install 'keras-makeavid[train]'"
            raise ImportError(expected) from error
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
        # Not Grain's: their settings are absl's flags, which absl's programs parse.
        with worker_pool(self.num_workers, _keep, self) as pool:
            yield lambda step: pool.submit(_kept_batch, step).result()


def _keep(loader):
    """Keep in a worker process the one loader that it has: it is sent there once."""
    global _kept
    _kept = loader


def _kept_batch(step):
    return _kept.batch(step)


class LatentLoader(BatchLoader):
    """Shuffled batches of random windows of a latent dataset.

    Every clip comes once, in a random window, before any comes again. Latents go to the
    device as they are stored: the training model scales them there.

    Args:
        source: Dataset folder, or an opened dataset.
        num_frames: Length of a window.
        batch_size: Windows in a batch, over all shards.
        samples_per_epoch: Windows in an epoch; `None` is one of each clip.
        seed: Of the order and of the windows.
        **kwargs: Further arguments of `BatchLoader`.

    Raises:
        FileNotFoundError: The dataset or one of its files is missing.
        ValueError: A clip, which is named, is damaged, shorter than `num_frames` or of
            another size than the others; or an argument makes no sense.

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
        self.reader = open_dataset(source)
        if not self.reader.ids:
            raise ValueError(f"{self.reader.folder} lists no clips")
        samples = len(self.reader) if samples_per_epoch is None else samples_per_epoch
        super().__init__(batch_size=batch_size, samples_per_epoch=samples, **kwargs)
        check_least(1, num_frames=num_frames)
        self.num_frames = num_frames
        lengths = _checked_lengths(self.reader, num_frames)
        windows = [length - num_frames + 1 for length in lengths]
        self._sampler = WindowSampler(windows, seed)

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Read this shard's part of batch `step`, from 0 on through all epochs.

        `latents` are `(B, F, H, W, C)`, as stored, and `context` `(B, L, D)`, float16.
        """
        samples = self.samples_of(step)
        frame, states = self.reader.latents_shape(0)[1:], self.reader.context_shape(0)
        latents = np.empty((len(samples), self.num_frames, *frame), "float16")
        context = np.empty((len(samples), *states), "float16")
        for row, sample in enumerate(samples):
            clip, start = self._sampler[sample]
            latents[row] = self.reader.latents(clip, start, start + self.num_frames)
            context[row] = self.reader.context(clip)
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
        problem = f"{len(short)} clips are shorter than {least} frames"
        raise ValueError(f"{problem}: {', '.join(short[:20])}")
    if len(sizes) > 1:
        problem = "All clips of a dataset must have latents and text states of one size"
        raise ValueError(f"{problem}. Received, with the first clip of each: {sizes}")
    return lengths


class PictureLoader(BatchLoader):
    """Batches of pictures, and of their captions as token ids.

    Args:
        source: Captioned pictures by number, such as `MotionClips` or `PictureFolder`.
            Its `images(numbers, moment)` gives pictures uint8 `(B, H, W, 3)`, and B
            captions; `moment` is from 0, the first frame of their clips, to 1, and
            `None` draws one.
        tokenize: Turns captions into token ids `(B, L)`; `None` leaves them out.
        moment: As for `source.images`.
        samples_per_epoch: Pictures in an epoch; `None` is one of each.
        **kwargs: See `BatchLoader`.

    Example:
    ```python
    loader = PictureLoader(MotionClips(), batch_size=32, samples_per_epoch=6400)
    loader.batch(0)["images"].shape  # (32, 64, 64, 3)
    ```
    """

    def __init__(
        self,
        source: Any,
        tokenize: Callable[[list[str]], np.ndarray] | None = None,
        moment: float | None = None,
        samples_per_epoch: int | None = None,
        **kwargs,
    ):
        if samples_per_epoch is None:
            # A source without end has none.
            samples_per_epoch = len(source)
        super().__init__(samples_per_epoch=samples_per_epoch, **kwargs)
        self._source = source
        self._tokenize = tokenize
        self._moment = moment

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Make this shard's part of batch `step`, from 0 on through all epochs.

        `images` are float32 `(B, H, W, 3)` in [-1, 1], and `token_ids` int32 `(B, L)`.
        """
        images, captions = self._source.images(self.samples_of(step), self._moment)
        batch = {"images": images.astype("float32") / 127.5 - 1.0}
        if self._tokenize is not None:
            batch["token_ids"] = np.asarray(self._tokenize(captions), "int32")
        return batch


@dataclass(frozen=True)
class WindowSampler:
    """Passes without end over clips, each a random window of every one in a new order.

    Sample `i` is a function of the seed and `i` only. `windows` are counts, one a clip.
    """

    windows: Sequence[int]
    seed: int = 0

    def __getitem__(self, sample: int) -> tuple[int, int]:
        """Clip and first frame of a sample."""
        turn, place = divmod(sample, len(self.windows))
        clip = int(_order(self.seed, turn, len(self.windows))[place])
        rng = np.random.default_rng([_WINDOW, self.seed, turn, place])
        return clip, int(rng.integers(self.windows[clip]))


# A batch may lie across the border of two passes.
@functools.lru_cache(maxsize=4)
def _order(seed: int, turn: int, count: int) -> np.ndarray:
    return np.random.default_rng([_ORDER, seed, turn]).permutation(count)


class PictureFolder:
    """The pictures of a folder and of those inside it, with their captions.

    They come in passes, each in an order of its own: number `i` is a function of the
    seed and `i` only. Captions are found as by `read_captions`.

    Args:
        folder: Folder of PNG, JPEG, WebP, GIF or BMP files.
        height: Rows to scale and crop to.
        width: Columns.
        seed: Seed of the orders.
        captioned: Whether the pictures have captions. Those of others are empty.

    Raises:
        FileNotFoundError: The folder is missing or holds no pictures.
        ValueError: Pictures have no caption, or one is none. The text names them.

    Example:
    ```python
    images, captions = PictureFolder("pictures", 512, 512).images(range(4))
    ```
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        height: int,
        width: int,
        seed: int = 0,
        captioned: bool = True,
    ):
        if captioned:
            captions = read_captions(folder, suffixes=PICTURE_SUFFIXES)
        else:
            captions = dict.fromkeys(find_files(folder, PICTURE_SUFFIXES), "")
        for path in captions:
            # What does not begin a picture is told before anything long starts.
            with opened_picture(path):
                pass
        self._pairs = list(captions.items())
        self._size = height, width
        self._sampler = WindowSampler([1] * len(self._pairs), seed)

    def __len__(self) -> int:
        return len(self._pairs)

    def images(
        self, indices: Sequence[int], moment: float | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Read pictures, uint8 `(B, H, W, 3)`, and captions by numbers from 0 on.

        A damaged file is a `ValueError` that names it.
        """
        pairs = [self._pairs[self._sampler[index][0]] for index in indices]
        images = [read_image(path, *self._size) for path, _ in pairs]
        return np.stack(images), [caption for _, caption in pairs]
