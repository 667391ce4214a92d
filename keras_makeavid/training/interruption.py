"""Signals that ask training to stop."""

from __future__ import annotations

import signal
import threading

import numpy as np


class Interruption:
    """Notes the first SIGTERM or SIGINT, for training to stop after its step.

    A second one acts as it would without this. Outside of the main thread, where
    Python takes no signals, nothing is noted.
    """

    def __init__(self):
        self.signal: int | None = None
        self._before = {}

    def step_ended(self) -> None:
        """Called after each step."""

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


class SharedInterruption(Interruption):
    """The same where several processes train: all stop after the same step.

    A signal that came to any of them is noted one step later, when a reduction behind
    that step's own has told all processes of it. On accelerators nobody waits for it.
    """

    def __init__(self):
        super().__init__()
        import jax
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        mesh = Mesh(np.array(jax.devices()), ("devices",))
        self._of_each = NamedSharding(mesh, PartitionSpec("devices"))
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._largest = jax.jit(jax.numpy.max, out_shardings=everywhere)
        self._came = 0
        self._on_its_way = None

    def step_ended(self) -> None:
        import jax

        if self._on_its_way is not None:
            self.signal = int(self._on_its_way) or None
        here = np.full(jax.local_device_count(), self._came, "int32")
        here = jax.make_array_from_process_local_data(self._of_each, here)
        self._on_its_way = self._largest(here)
        if jax.default_backend() == "cpu":
            # Processes that have several programs under way wait for each other.
            self._on_its_way.block_until_ready()

    def _note(self, number, frame):
        self._came = number
        self._put_back()
