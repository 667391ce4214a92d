"""How fast training goes, and how much memory it takes."""

from __future__ import annotations

import sys
import time

import keras


class Pace:
    """Steps and frames a second since it was last asked.

    Args:
        frames_per_step: frames of a batch, of all its samples.

    Example:
    ```python
    pace = Pace(frames_per_step=96)
    pace.since_last(step=10)
    ```
    """

    def __init__(self, frames_per_step: int):
        self._frames_per_step = frames_per_step
        self._step = None
        self._time = None

    def since_last(self, step: int) -> dict[str, float]:
        """Rates, by name; empty when asked for the first time.

        Args:
            step: steps done.
        """
        now = time.perf_counter()
        rates = {}
        if self._step is not None and step > self._step and now > self._time:
            rate = (step - self._step) / (now - self._time)
            rates = {
                "steps_per_second": rate,
                "frames_per_second": rate * self._frames_per_step,
            }
        self._step, self._time = step, now
        return rates


def peak_memory_gb() -> float:
    """The most memory that was in use: the accelerator's, or without one the process's.

    NaN on Windows, which does not tell.

    Example:
    ```python
    peak_memory_gb()
    ```
    """
    backend = keras.config.backend()
    used = _accelerator_memory(backend)
    if not used:
        try:
            import resource
        except ImportError:  # Windows
            return float("nan")
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Linux counts it in kilobytes, macOS in bytes.
        used *= 1 if sys.platform == "darwin" else 1024
    return used / 1e9


def _accelerator_memory(backend):
    if backend == "jax":
        import jax

        statistics = jax.local_devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use", 0)
    if backend == "torch":
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        return 0
    return tf.config.experimental.get_memory_info("GPU:0")["peak"]
