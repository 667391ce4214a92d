"""What is known of a step when it is done."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StepLog:
    """One line of `metrics.jsonl`; nothing in it depends on the clock.

    Args:
        step: steps of the run up to and with this one.
        stage: the stage's name.
        epoch: of the stage, from 1.
        loss: of this step alone.
        lr: the learning rate of this step.
        grad_norm: norm of the gradient before clipping; with accumulation, of the
            mean of the parts so far.
        skipped: whether the step changed nothing because something was not finite.
        skipped_total: how many such steps the stage has had.
        rollbacks: how many roll-backs the run has had.
        data_step: the batch that it trained on.
    """

    step: int
    stage: str
    epoch: int
    loss: float
    lr: float
    grad_norm: float
    skipped: bool
    skipped_total: int
    rollbacks: int
    data_step: int

    def as_json(self) -> dict[str, Any]:
        """The fields, with `None` for what is not finite: JSON has no NaN."""
        return {
            name: None
            if isinstance(value, float) and not math.isfinite(value)
            else value
            for name, value in asdict(self).items()
        }
