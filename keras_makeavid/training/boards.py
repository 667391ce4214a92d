"""Curves and sample videos, for TensorBoard and for Weights & Biases."""

from __future__ import annotations

import socket
import struct
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.files import written_aside
from keras_makeavid.video import write_video


class TensorBoardLog:
    """Writes event files that TensorBoard reads, each entry at once.

    TensorboardX's own writer has a thread, which a full disk lets hang for ever.
    """

    def __init__(self, folder: Path, report: Callable[[str], None]):
        self._folder = folder
        self._first_step = 0
        self._report = report
        self._file = None

    def go_on_at(self, step: int) -> None:
        """Begin, or go back to, after a step; later ones are not shown any more."""
        self.close()
        self._first_step = step + 1

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        from tensorboardX.proto.summary_pb2 import Summary

        entries = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
        ]
        self._write(step, Summary(value=entries))

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> None:
        """Show a video: uint8 `(F, H, W, 3)`."""
        from tensorboardX.proto.summary_pb2 import Summary

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.gif"
            write_video(path, frames, fps)
            encoded = path.read_bytes()
        height, width = frames.shape[1:3]
        # TensorBoard shows a GIF as an image that moves.
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=encoded
        )
        entry = Summary.Value(tag=f"samples/{name}", image=image)
        self._write(step, Summary(value=[entry]))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, step, summary):
        from tensorboardX.proto.event_pb2 import Event

        event = Event(wall_time=time.time(), step=step, summary=summary)
        try:
            if self._file is None:
                self._open(step)
            self._file.write(_record(event))
        except OSError as error:
            # What follows half a record would not be read: a new file next time.
            self.close()
            self._first_step = step + 1
            self._report(f"TensorBoard's files cannot be written for now: {error}")

    def _open(self, step):
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._folder.mkdir(parents=True, exist_ok=True)
        # In the order of their names TensorBoard reads them.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        first = min(self._first_step, step)
        start = SessionLog(status=SessionLog.START)
        self._file = (self._folder / name).open("wb", buffering=0)
        for event in (
            Event(wall_time=time.time(), file_version="brain.Event:2"),
            Event(wall_time=time.time(), step=first, session_log=start),
        ):
            self._file.write(_record(event))


def _record(event) -> bytes:
    """An event in the form of TFRecord files."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + checks[0] + data + checks[1]


class WandbLog:
    """Logs to a run of Weights & Biases, the same one when training is continued.

    `WANDB_MODE=offline` keeps everything in the folder, for `wandb sync` later.
    """

    def __init__(self, folder: Path, project: str, config: Mapping[str, Any]):
        import wandb

        self._folder = folder
        self._wandb = wandb
        self._run = wandb.init(
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

    def go_on_at(self, step: int) -> None:
        """W&B shows what it was told of later steps, too."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> None:
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
