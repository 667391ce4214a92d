"""Everything that a run tells, kept consistent with where the run is."""

from __future__ import annotations

from collections import deque

import numpy as np

from keras_makeavid.recipes import Recipe, recipe_as_dict
from keras_makeavid.training.logs.console_log import ConsoleLog
from keras_makeavid.training.logs.metrics_file import MetricsFile
from keras_makeavid.training.logs.pace import Pace, peak_memory_gb
from keras_makeavid.training.logs.step_log import StepLog
from keras_makeavid.training.logs.tensorboard_log import TensorBoardLog
from keras_makeavid.training.logs.wandb_log import WandbLog
from keras_makeavid.training.run_folder import RunFolder

# The loss of one step depends on the timesteps drawn more than on the model.
_RECENT_STEPS = 100


class RunLog:
    """Console, `metrics.jsonl`, TensorBoard and Weights & Biases of a run.

    Args:
        recipe: of the run; says which of them there are.
        folder: of the run.
        total: steps of the run.

    Raises:
        ImportError: if one that the recipe asks for is not installed.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder, total: int):
        self._every = recipe.logs.every
        self._folder = folder
        self._console = ConsoleLog(total)
        self._metrics = MetricsFile(folder.metrics, self.message)
        self._recent: deque[tuple[str, float | None]] = deque(maxlen=_RECENT_STEPS)
        self._pace = None
        self._tensorboard = None
        self._writes_tensorboard = recipe.logs.tensorboard
        self._boards = []
        if recipe.logs.wandb is not None:
            config = recipe_as_dict(recipe)
            self._boards.append(WandbLog(folder.path, recipe.logs.wandb, config))

    def go_on_at(self, step: int, frames_per_step: int) -> None:
        """Begin, or go back to, after so many steps of the run.

        Args:
            step: done; what is told of later ones is dropped.
            frames_per_step: of the steps that follow.
        """
        self._metrics.cut_after(step)
        self._recent.clear()
        for line in self._metrics.last(_RECENT_STEPS):
            self._recent.append((line["stage"], line["loss"]))
        self._pace = Pace(frames_per_step)
        self._console.go_on_at(step)
        if self._writes_tensorboard:
            if self._tensorboard is not None:
                self._tensorboard.close()
            self._tensorboard = TensorBoardLog(
                self._folder.tensorboard, step + 1, self.message
            )

    def step(self, log: StepLog, last: bool = False) -> None:
        """Tell a step.

        Args:
            log: of the step.
            last: whether it is the last of its stage.
        """
        self._metrics.write(log)
        self._console.step(log, last)
        self._recent.append((log.stage, log.as_json()["loss"]))
        if log.step % self._every:
            return
        scalars = {
            "loss": log.loss,
            "learning_rate": log.lr,
            "gradient_norm": log.grad_norm,
            "skipped_total": log.skipped_total,
            "epoch": log.epoch,
            "memory_gb": peak_memory_gb(),
            **self._pace.since_last(log.step),
        }
        for board in self._all_boards():
            board.scalars(log.step, scalars)

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> None:
        """Show a sample video, uint8 `(F, H, W, 3)`, where that can be done."""
        for board in self._all_boards():
            board.video(step, name, frames, fps)

    def message(self, text: str) -> None:
        """Say something."""
        self._console.message(text)

    def note(self, text: str) -> None:
        """Tell something that is as it should be."""
        self._console.note(text)

    @property
    def has_lines(self) -> bool:
        """Whether steps were told, now or before the run was continued."""
        return self._metrics.path.stat().st_size > 0

    def recent_loss(self, stage: str) -> float:
        """The mean loss of the last steps of a stage; NaN before there are any."""
        losses = [
            loss
            for of_stage, loss in self._recent
            if of_stage == stage and loss is not None
        ]
        return float(np.mean(losses)) if losses else float("nan")

    def last_lines(self, count: int) -> list[dict]:
        """The last lines of `metrics.jsonl`."""
        return self._metrics.last(count)

    def close(self) -> None:
        """Finish all files."""
        for board in self._all_boards():
            board.close()
        self._metrics.close()
        self._console.close()

    def _all_boards(self):
        return [board for board in (self._tensorboard, *self._boards) if board]
