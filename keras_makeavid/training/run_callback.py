"""What happens between the steps of `fit` in a run."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.training.interruption import Interruption
from keras_makeavid.training.logs import StepLog
from keras_makeavid.training.phases import Phase


@dataclasses.dataclass(frozen=True)
class Position:
    """The place in a recipe that a checkpoint belongs to.

    Args:
        phase: Number of the phase.
        step: Steps of that phase that are done.
        data_shift: How many batches the data is ahead of the steps, after roll-backs.
        rollbacks: What is known of each roll-back so far.
        skipped_in_a_row: How many of the last steps were skipped.
    """

    phase: int = 0
    step: int = 0
    data_shift: int = 0
    rollbacks: tuple[Mapping[str, Any], ...] = ()
    skipped_in_a_row: int = 0

    def as_json(self) -> dict[str, Any]:
        """The fields, for a checkpoint."""
        return {**dataclasses.asdict(self), "rollbacks": list(self.rollbacks)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Position:
        """The position that `as_json` gave."""
        return cls(**{**values, "rollbacks": tuple(values["rollbacks"])})


class UnreadLogs(keras.callbacks.CallbackList):
    """Callbacks that get the logs as they are on the device.

    Keras's own list turns every value into a Python number, and so waits for every
    step before the next is begun.
    """

    def on_train_batch_end(self, batch, logs=None):
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Steps between what happens now and then.

    Args:
        checkpoint: Between checkpoints.
        samples: Between sample videos; `None` for none.
    """

    checkpoint: int
    samples: int | None = None


class RunCallback(keras.callbacks.Callback):
    """Reads what each step tells, one step late, and stops where something is due.

    Args:
        phase: Phase that is trained.
        position: Where it begins; the attribute of this name is where it has come.
        patience: Skipped steps in a row that end this `fit`; `None` where none are
            skipped.
        intervals: When checkpoints and samples are due.
        interruption: Ends this `fit` too.
        log: Called with each `StepLog`, in order.
        checkpoint: Called with the position, when one is due.
        samples: Called with the steps of the phase, when some are due.
        begun: Called with the seconds until the first step was on its way, which are
            those of compiling it, or of finding it compiled.
    """

    def __init__(
        self,
        phase: Phase,
        position: Position,
        patience: int | None,
        intervals: Intervals,
        interruption: Interruption,
        log: Callable[[StepLog], None],
        checkpoint: Callable[[Position], None],
        samples: Callable[[int], None],
        begun: Callable[[float], None],
    ):
        super().__init__()
        self._phase = phase
        self.position = position
        self._patience = patience
        self._intervals = intervals
        self._interruption = interruption
        self._log = log
        self._checkpoint = checkpoint
        self._samples = samples
        self._begun = begun
        self._asked_at: float | None = None
        self._unread: deque[tuple[int, Any]] = deque()
        self.gave_up_at: StepLog | None = None

    def on_train_batch_begin(self, batch, logs=None):
        if self._asked_at is None:
            self._asked_at = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if self._begun is not None:
            self._begun(time.perf_counter() - self._asked_at)
            self._begun = None
        step = self.position.step + 1
        self.position = dataclasses.replace(self.position, step=step)
        self._unread.append((step, _on_its_way(logs)))
        interval = self._intervals
        self._interruption.step_ended()
        stops = self._interruption.signal is not None
        saves = step % interval.checkpoint == 0 or step == self._phase.steps
        shows = interval.samples is not None and step % interval.samples == 0
        self._read(unread=0 if stops or saves or shows else 1)
        if self.gave_up_at is not None:
            self.model.stop_training = True
            return
        # What may be the begin of a divergence is nothing to return to.
        saves = stops or (saves and not self.position.skipped_in_a_row)
        if saves or shows:
            _put_state_into_variables(self.model)
        if saves:
            self._checkpoint(self.position)
        if shows:
            self._samples(step)
        if stops:
            self.model.stop_training = True

    def _read(self, unread):
        """Read the logs but of the last `unread` steps."""
        while len(self._unread) > unread and self.gave_up_at is None:
            step, logs = self._unread.popleft()
            log = self._step_log(step, logs)
            self._log(log)
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


def _put_state_into_variables(model):
    """Let the model's variables have their values, which JAX's `fit` keeps apart."""
    if keras.config.backend() == "jax":
        model.jax_state_sync()
