"""Work on a model in a thread of its own, which tells how far it is, and can end."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Cancelled(Exception):
    """The visitor does not want the result any more."""


class Worker:
    """Does one work at a time, as a model serves one video at a time.

    Args:
        device: What to compute on, as `makeavid --device` names it.
    """

    def __init__(self, device: str | None = None):
        self._device = device
        self._lock = threading.Lock()

    def steps(
        self,
        work: Callable[[Callable[[Any], None]], Any],
        running: set[threading.Event],
    ) -> Iterator[Any]:
        """Yield what `work` tells the function that it is given, and then its result.

        Args:
            work: What to do.
            running: Gets an event while it works. Once that is set, the next that the
                work tells ends it with `Cancelled`.
        """
        told: queue.SimpleQueue = queue.SimpleQueue()
        cancelled = threading.Event()

        def tell(value):
            if cancelled.is_set():
                raise Cancelled
            told.put((value, None))

        def target():
            try:
                with self._lock, self._on_device():
                    tell(work(tell))
                error = None
            # XLA wraps what a callback raises.
            except BaseException as raised:
                error = Cancelled() if cancelled.is_set() else raised
            told.put((None, error or StopIteration()))

        thread = threading.Thread(target=target)
        running.add(cancelled)
        thread.start()
        try:
            while True:
                value, error = told.get()
                if isinstance(error, StopIteration):
                    return
                if error is not None:
                    raise error
                yield value
        finally:
            cancelled.set()
            running.discard(cancelled)

    def wait(self, seconds: float) -> None:
        """Wait until the work that runs has ended."""
        if self._lock.acquire(timeout=seconds):
            self._lock.release()

    def _on_device(self) -> Any:
        import keras

        # Keras's choice of a device is a thread's own.
        return keras.device(self._device) if self._device else contextlib.nullcontext()
