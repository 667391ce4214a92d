"""Which window of which clip each training sample is."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

# Two streams: NumPy's are the same for [s, t] and [s, t, 0].
_ORDER, _WINDOW = 1, 2


class WindowSampler:
    """An endless shuffled order of random windows, with random access.

    The samples go in passes: each pass holds one random window of every clip, in an
    order of its own. Sample `i` is a function of the seed and `i` only.

    Args:
        windows: number of windows of each clip; one begins at each of its first
            frames.
        seed: of the orders and the windows.

    Example:
        ```python
        sampler = WindowSampler([97, 1, 12], seed=0)
        clip, start = sampler[5]  # of the second pass
        ```
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

    def __getstate__(self):
        # A cache is not to be sent to other processes, and cannot be.
        return {"windows": self._windows, "seed": self._seed}

    def __setstate__(self, state):
        self.__init__(**state)

    def _shuffled(self, turn):
        rng = np.random.default_rng([_ORDER, self._seed, turn])
        return rng.permutation(len(self._windows))
