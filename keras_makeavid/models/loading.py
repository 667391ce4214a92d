"""Models whose weights come from files: under JAX none is drawn at random before."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

_this_thread = threading.local()
_lock = threading.Lock()
_within = 0
_add_weight = keras.layers.Layer.add_weight


@contextlib.contextmanager
def weights_to_come() -> Iterator[None]:
    """Within it, layers that this thread builds under JAX have zeros for weights.

    There each shape of weight is a program to compile before one can be drawn. Keras
    has no way to build a layer without.

    Example:
    ```python
    with weights_to_come():
        dense = keras.layers.Dense(3)
        dense.build((None, 4))  # under JAX its kernel is zero until it is assigned
    ```
    """
    _enter(1)
    try:
        yield
    finally:
        _enter(-1)


def _enter(step):
    global _within
    if keras.config.backend() != "jax":
        return
    _this_thread.within = getattr(_this_thread, "within", 0) + step
    with _lock:
        _within += step
        keras.layers.Layer.add_weight = _add_zeros if _within else _add_weight


class FromPreset:
    """Makes `from_preset` of a KerasHub class draw no weights only to load others."""

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any):
        """Make the model of a preset.

        Args:
            preset: Name of a preset of the package, a folder, or a handle as KerasHub
                takes them, such as `hf://owner/name`.
            load_weights: Whether to load its weights; `False` draws new ones.
            **kwargs: As those of KerasHub's method, such as `dtype`.

        Raises:
            ValueError: If there is no such preset.
        """
        within = weights_to_come() if load_weights else contextlib.nullcontext()
        with within:
            return super().from_preset(preset, load_weights=load_weights, **kwargs)


def _add_zeros(layer, *arguments, initializer=None, **options):
    # Shards of a distributed weight are made where they belong, by Keras.
    distributed = keras.distribution.distribution() is not None
    if getattr(_this_thread, "within", 0) and not distributed:
        initializer = _zeros
    return _add_weight(layer, *arguments, initializer=initializer, **options)


def _zeros(shape, dtype=None):
    # JAX's own zeros are a program to compile, too.
    return keras.ops.convert_to_tensor(np.zeros(shape, "float32"), dtype)
