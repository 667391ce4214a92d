"""What happens between the steps of `fit` in a run."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.training.interruption import Interruption
from keras_makeavid.training.logs import StepLog
from keras_makeavid.training.phases import Phase


@dataclasses.dataclass(frozen=True)
class Position:
    """The place in a recipe that a checkpoint belongs to."""

    # Number of the phase, and the steps of it that are done.
    phase: int = 0
    step: int = 0
    # How many batches the data is ahead of the steps, after roll-backs.
    data_shift: int = 0
    # What is known of each roll-back so far.
    rollbacks: tuple[dict[str, Any], ...] = ()
    # How many of the last steps were skipped.
    skipped_in_a_row: int = 0


class UnreadLogs(keras.callbacks.CallbackList):
    """Callbacks that get the logs as they are on the device.

    Keras's own list turns every value into a Python number, and so waits for every
    step before the next is begun.
    """

    def on_train_batch_end(self, batch, logs=None) -> None:
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)


class RunCallback(keras.callbacks.Callback):
    """Reads what each step tells, one step late, and stops where something is due.

    `position` is where the phase has come, and `gave_up_at` the last of `patience`
    skipped steps in a row, which end this `fit`; `None` is for phases that skip none.
    """

    def __init__(
        self,
        phase: Phase,
        position: Position,
        patience: int | None,
        interruption: Interruption,
        *,
        checkpoint_interval: int,
        sample_interval: int | None,
        on_first_step: Callable[[float], None],
        on_step: Callable[[StepLog], None],
        on_checkpoint: Callable[[Position], None],
        on_sample: Callable[[int], None],
    ):
        super().__init__()
        self.position = position
        self.gave_up_at: StepLog | None = None
        self._phase = phase
        self._patience = patience
        self._interruption = interruption
        self._checkpoint_interval = checkpoint_interval
        self._sample_interval = sample_interval
        # Told the seconds until the first step was on its way: those of compiling it.
        self._on_first_step: Callable[[float], None] | None = on_first_step
        self._on_step = on_step
        self._on_checkpoint = on_checkpoint
        self._on_sample = on_sample
        self._asked_at = 0.0
        self._unread: deque[tuple[int, Any]] = deque()

    def on_train_batch_begin(self, batch, logs=None) -> None:
        if not self._asked_at:
            self._asked_at = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self._on_first_step is not None:
            self._on_first_step(time.perf_counter() - self._asked_at)
            self._on_first_step = None
        step = self.position.step + 1
        self.position = dataclasses.replace(self.position, step=step)
        self._unread.append((step, _on_its_way(logs)))
        self._interruption.step_ended()
        stops = self._interruption.signal is not None
        saves = step % self._checkpoint_interval == 0 or step == self._phase.steps
        shows = self._sample_interval is not None and step % self._sample_interval == 0
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
            self._on_checkpoint(self.position)
        if shows:
            self._on_sample(step)
        if stops:
            self.model.stop_training = True

    def _read(self, unread):
        """Read the logs but of the last `unread` steps."""
        while len(self._unread) > unread and self.gave_up_at is None:
            log = self._step_log(*self._unread.popleft())
            self._on_step(log)
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
            skipped=self._patience is not None and not np.isfinite(norm),
            skipped_total=int(values["skipped_total"]),
            rollbacks=len(self.position.rollbacks),
            data_step=self._phase.first_step + step - 1 + self.position.data_shift,
        )


def _on_its_way(logs: dict[str, Any]) -> dict[str, Any]:
    """The logs, their copies to the host begun where that takes time."""
    for value in logs.values():
        if hasattr(value, "copy_to_host_async"):
            value.copy_to_host_async()
    return logs
