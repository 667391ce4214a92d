"""What happens between the steps of `fit` in a run, and signals that end it."""

import dataclasses
import signal
import threading
import time
from collections import deque
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.recipes import Recipe
from keras_makeavid.training.logs import StepLog
from keras_makeavid.training.phases import Phase


@dataclasses.dataclass(frozen=True)
class Position:
    """The place in a recipe that a checkpoint belongs to."""

    phase: int = 0  # Its number.
    step: int = 0  # Steps of the phase that are done.
    data_shift: int = 0  # Batches that the data is ahead of the steps, by roll-backs.
    rollbacks: tuple[dict[str, Any], ...] = ()  # What is known of each so far.
    skipped_in_a_row: int = 0  # Of the last steps.


class Interruption:
    """Notes the first SIGTERM or SIGINT, for training to stop after its step.

    A second one acts as it would without this. Only the main thread gets any.
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
    """The same of several processes: all stop after the same step, one later."""

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


class UnreadLogs(keras.callbacks.CallbackList):
    """Callbacks that get logs as they are on the device, without waiting."""

    def on_train_batch_end(self, batch, logs=None) -> None:
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)


class RunCallback(keras.callbacks.Callback):
    """Reads what each step tells, one step late, and stops where something is due.

    `position` is where the phase has come, and `gave_up_at` the last of so many skipped
    steps in a row that they end this `fit`. What is to be done is a method of the run.
    """

    def __init__(
        self,
        run: Any,
        recipe: Recipe,
        phase: Phase,
        position: Position,
        interruption: Interruption,
    ):
        super().__init__()
        self.position = position
        self.gave_up_at: StepLog | None = None
        self._run = run
        self._phase = phase
        self._patience = recipe.guard.patience
        self._interruption = interruption
        self._checkpoint_interval = phase.interval(recipe.checkpoints.every)
        self._sample_interval = recipe.samples and phase.interval(recipe.samples.every)
        # When the first step was asked for, until it is on its way: then compiled.
        self._asked_at: float | None = 0.0
        self._unread: deque[tuple[int, Any]] = deque()

    def on_train_batch_begin(self, batch, logs=None) -> None:
        if self._asked_at == 0.0:
            self._asked_at = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self._asked_at is not None:
            self._run.begun(time.perf_counter() - self._asked_at)
            self._asked_at = None
        step = self.position.step + 1
        self.position = dataclasses.replace(self.position, step=step)
        for value in logs.values():
            # Its copy to the host begins, where that takes time.
            if hasattr(value, "copy_to_host_async"):
                value.copy_to_host_async()
        self._unread.append((step, logs))
        self._interruption.step_ended()
        stops = self._interruption.signal is not None
        saves = step % self._checkpoint_interval == 0 or step == self._phase.steps
        shows = self._sample_interval and step % self._sample_interval == 0
        self._read(unread=0 if stops or saves or shows else 1)
        if self.gave_up_at is not None:
            self.model.stop_training = True
            return
        # What may be the begin of a divergence is nothing to return to.
        saves = stops or (saves and not self.position.skipped_in_a_row)
        if (saves or shows) and keras.config.backend() == "jax":
            # `fit` keeps the variables' values apart.
            self.model.jax_state_sync()
        if saves:
            self._run.checkpoint(self.position)
        if shows:
            self._run.sample(step)
        if stops:
            self.model.stop_training = True

    def _read(self, unread):
        """Read the logs but of the last `unread` steps."""
        while len(self._unread) > unread and self.gave_up_at is None:
            log = self._step_log(*self._unread.popleft())
            self._run.step(log)
            skipped = self.position.skipped_in_a_row + 1 if log.skipped else 0
            self.position = dataclasses.replace(self.position, skipped_in_a_row=skipped)
            if log.skipped and skipped >= self._patience:
                self.gave_up_at = log

    def _step_log(self, step, logs):
        values = {name: np.asarray(ops.convert_to_numpy(v)) for name, v in logs.items()}
        norm = float(values["grad_norm"])
        return StepLog(
            step=self._phase.first_step + step,
            stage=self._phase.name,
            epoch=self._phase.epoch(step),
            loss=float(values["step_loss"]),
            lr=float(values["lr"]),
            grad_norm=norm,
            skipped=not np.isfinite(norm),
            skipped_total=int(values["skipped_total"]),
            rollbacks=len(self.position.rollbacks),
            data_step=self._phase.first_step + step - 1 + self.position.data_shift,
        )
