"""What processes other than the first tell of a run: nothing."""

from __future__ import annotations

import numpy as np

from keras_makeavid.training.logs.step_log import StepLog


class SilentLog:
    """In the place of a `RunLog`, and of its methods.

    Example:
    ```python
    SilentLog().message("nobody hears this")
    ```
    """

    has_lines = False

    def go_on_at(self, step: int, frames_per_step: int) -> None:
        """As `RunLog.go_on_at`."""

    def step(self, log: StepLog, last: bool = False) -> None:
        """As `RunLog.step`."""

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> None:
        """As `RunLog.video`."""

    def message(self, text: str) -> None:
        """As `RunLog.message`."""

    def note(self, text: str) -> None:
        """As `RunLog.note`."""

    def recent_loss(self, stage: str) -> float:
        """NaN, as before there are any losses."""
        return float("nan")

    def last_lines(self, count: int) -> list[dict]:
        """None."""
        return []

    def close(self) -> None:
        """As `RunLog.close`."""
