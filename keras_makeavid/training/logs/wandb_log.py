"""Curves and sample videos for Weights & Biases."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.files import written_aside
from keras_makeavid.video import write_video


class WandbLog:
    """Logs to a run of Weights & Biases, the same one when training is continued.

    `WANDB_MODE=offline` keeps everything in the folder, for `wandb sync` later.

    Args:
        folder: of the run; W&B's files go there.
        project: of W&B.
        config: what the run is, shown beside it.

    Raises:
        ImportError: if wandb is missing.
    """

    def __init__(self, folder: str | Path, project: str, config: Mapping[str, Any]):
        folder = Path(folder)
        self._folder = folder
        self._wandb = _import_wandb()
        self._run = self._wandb.init(
            project=project,
            name=folder.name,
            id=_run_id(folder / "wandb_id.txt"),
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )
        # W&B's own step only ever grows: after a roll-back it would drop what comes.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        self._run.log({"step": step, **values})

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> None:
        """Show a video: uint8 `(F, H, W, 3)`."""
        path = self._folder / ".wandb_video.gif"
        write_video(path, frames, fps)
        # W&B copies the file before this returns.
        video = self._wandb.Video(str(path), format="gif")
        self._run.log({"step": step, f"samples/{name}": video})
        path.unlink()

    def close(self) -> None:
        self._run.finish()


def _run_id(path):
    if not path.exists():
        with written_aside(path) as aside:
            aside.write_text(uuid.uuid4().hex[:16], encoding="utf-8")
    return path.read_text(encoding="utf-8")


def _import_wandb():
    try:
        import wandb
    except ImportError as error:
        raise ImportError(
            "logs.wandb needs Weights & Biases: pip install 'keras-makeavid[wandb]'"
        ) from error
    return wandb
