"""Signals that ask training to stop."""

from __future__ import annotations

import signal
import threading


class Interruption:
    """Notes the first SIGTERM or SIGINT, for training to stop after its step.

    A second one acts as it would without this. Outside of the main thread, where
    Python takes no signals, nothing is noted.

    Example:
    ```python
    with Interruption() as interruption:
        interruption.signal  # None
    ```
    """

    def __init__(self):
        self.signal: int | None = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception):
        self._put_back()

    def _note(self, number, frame):
        self.signal = number
        self._put_back()

    def _put_back(self):
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
