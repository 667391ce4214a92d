"""What a training run tells while it runs: on the console, in files, on a board."""

import contextlib
import json
import math
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.files import StrPath
from keras_makeavid.json_files import parse_json
from keras_makeavid.recipes import Recipe
from keras_makeavid.training.run_folder import RunFolder
from keras_makeavid.video import encode_video

# Where there is no terminal, lines go to files that are read later.
_SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class StepLog:
    """One line of `metrics.jsonl`; nothing in it depends on the clock."""

    step: int  # Steps of the run up to and with this one.
    stage: str
    epoch: int  # Of the stage, from 1.
    loss: float  # Of this step alone.
    lr: float
    grad_norm: float  # Before clipping, of the mean of the accumulated parts so far.
    skipped: bool  # It changed nothing, because something was not finite.
    skipped_total: int  # Such steps of the stage.
    rollbacks: int  # Of the run.
    data_step: int  # The batch that it trained on.

    def as_json(self) -> dict[str, Any]:
        """The fields, with `None` for what is not finite: JSON has no NaN."""
        values = asdict(self)
        for name in ("loss", "lr", "grad_norm"):
            if not math.isfinite(values[name]):
                values[name] = None
        return values


class MetricsFile:
    """A file of one JSON object a line, continued if it is there.

    A process that is killed loses no line. Those that a full disk refuses come later.
    """

    def __init__(self, path: StrPath, report: Callable[[str], None] = print):
        self.path = Path(path)
        self._report = report
        self._waiting = b""
        self._file = self.path.open("ab", buffering=0)

    def write(self, log: StepLog) -> None:
        self._waiting += json.dumps(log.as_json()).encode() + b"\n"
        try:
            while self._waiting:
                done = self._file.write(self._waiting)
                self._waiting = self._waiting[done:]
        except OSError as error:
            if self._waiting.count(b"\n") == 1:
                self._report(f"{self.path} cannot be written for now: {error}")

    def cut_after(self, step: int) -> None:
        """Drop the lines of later steps, and one that a kill left unfinished."""
        written = self.path.read_bytes()
        lines = written + self._waiting
        kept = 0
        for line in lines.splitlines(keepends=True):
            if not line.endswith(b"\n") or _read_line(line, self.path)["step"] > step:
                break
            kept += len(line)
        self._file.truncate(min(kept, len(written)))
        self._waiting = lines[len(written) : kept]

    def last(self, count: int) -> list[dict[str, Any]]:
        """The last lines, oldest first."""
        lines = (self.path.read_bytes() + self._waiting).splitlines()
        return [_read_line(line, self.path) for line in lines[-count:]]

    def close(self) -> None:
        self._file.close()


def read_metrics(path: StrPath) -> Iterator[dict[str, Any]]:
    """The whole lines of a `metrics.jsonl` as dicts, whether its run has ended or not.

    Example:
        ```python
        losses = [line["loss"] for line in read_metrics("run/metrics.jsonl")]
        ```
    """
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield _read_line(line, path)


def _read_line(line, path):
    values = parse_json(line, path)
    if not isinstance(values, dict) or not isinstance(values.get("step"), int):
        expected = f"{path} must hold an object with a step in each line"
        raise ValueError(f"{expected}. Received: {line[:80].decode(errors='replace')}")
    return values


class ConsoleLog:
    """A progress bar on a terminal; a line now and then where there is none."""

    def __init__(self, total: int):
        from tqdm import tqdm

        self._total = total
        self._shown = -float("inf")
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, desc="train", unit="step", disable=not self._terminal
        )

    def go_on_at(self, step: int) -> None:
        self._bar.initial = self._bar.n = step
        self._bar.refresh()

    def step(self, log: StepLog, last: bool = False) -> None:
        """Show a step that is done; `last` shows it in any case."""
        told = f"{log.stage} epoch {log.epoch}, loss {log.loss:.4g}, lr {log.lr:.2e}"
        if log.skipped_total:
            told += f", {log.skipped_total} skipped"
        if self._terminal:
            self._bar.set_postfix_str(told, refresh=False)
            self._bar.update(log.step - self._bar.n)
        elif last or time.monotonic() - self._shown >= _SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            print(f"step {log.step}/{self._total}: {told}", flush=True)

    def message(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)
        sys.stderr.flush()

    def note(self, text: str) -> None:
        """Tell something that is as it should be, where the steps are told."""
        if self._terminal:
            self.message(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        self._bar.close()


class TensorBoardLog:
    """Writes event files that TensorBoard reads, each entry at once.

    TensorboardX's own writer has a thread, which a full disk lets hang for ever.
    """

    def __init__(self, folder: Path, report: Callable[[str], None]):
        from tensorboardX.proto import event_pb2, summary_pb2

        self._events, self._summaries = event_pb2, summary_pb2
        self._folder = folder
        self._first_step = 0
        self._report = report
        self._file = None

    def go_on_at(self, step: int) -> None:
        """Begin, or go back to, after a step; later ones are not shown any more."""
        self.close()
        self._first_step = step + 1

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        value = self._summaries.Summary.Value
        entries = [value(tag=k, simple_value=v) for k, v in values.items()]
        self._write(step, entries)

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> None:
        """Show a video: uint8 `(F, H, W, 3)`."""
        summary = self._summaries.Summary
        encoded = encode_video(".gif", frames, fps)
        height, width = frames.shape[1:3]
        # TensorBoard shows a GIF as an image that moves.
        image = summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=encoded
        )
        self._write(step, [summary.Value(tag=f"samples/{name}", image=image)])

    def close(self) -> None:
        # A full disk refuses what a record that failed has left in its buffer.
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None

    def _write(self, step, entries):
        try:
            if self._file is None:
                self._open(step)
            self._add(step=step, summary=self._summaries.Summary(value=entries))
        except OSError as error:
            # What follows half a record would not be read: a new file next time.
            self.close()
            self._first_step = step + 1
            self._report(f"TensorBoard's files cannot be written for now: {error}")

    def _open(self, step):
        from tensorboardX.record_writer import RecordWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        # In the order of their names TensorBoard reads them.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        session = self._events.SessionLog
        self._file = RecordWriter(str(self._folder / name))
        self._add(file_version="brain.Event:2")
        first = min(self._first_step, step)
        self._add(step=first, session_log=session(status=session.START))

    def _add(self, **fields):
        event = self._events.Event(wall_time=time.time(), **fields)
        self._file.write(event.SerializeToString())
        self._file.flush()


class RunLog:
    """Console, `metrics.jsonl` and TensorBoard of a run of `total` steps."""

    def __init__(self, recipe: Recipe, folder: RunFolder, total: int):
        self._every = recipe.logs.every
        self._console = ConsoleLog(total)
        self.message, self.note = self._console.message, self._console.note
        self._metrics = MetricsFile(folder.metrics, self.message)
        self.last_lines = self._metrics.last
        # Of the last step that the board was told, with its time.
        self._shown: tuple[int, float] | None = None
        self._board = None
        if recipe.logs.tensorboard:
            self._board = TensorBoardLog(folder.tensorboard, self.message)

    def go_on_at(self, step: int) -> None:
        """Begin, or go back to, after a step; lines of later ones are dropped."""
        self._metrics.cut_after(step)
        self._shown = None
        self._console.go_on_at(step)
        if self._board is not None:
            self._board.go_on_at(step)

    def step(self, log: StepLog, last: bool = False) -> None:
        """Tell a step; `last` is whether its stage ends with it."""
        self._metrics.write(log)
        self._console.step(log, last)
        if self._board is None or log.step % self._every:
            return
        scalars = {
            "loss": log.loss,
            "learning_rate": log.lr,
            "gradient_norm": log.grad_norm,
            "skipped_total": log.skipped_total,
            "epoch": log.epoch,
        }
        # The rate is that since the board was last told.
        before, self._shown = self._shown, (log.step, time.perf_counter())
        if before is not None:
            steps, seconds = log.step - before[0], self._shown[1] - before[1]
            scalars["steps_per_second"] = steps / seconds
        self._board.scalars(log.step, scalars)

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> None:
        """Show a sample video, uint8 `(F, H, W, 3)`, where that can be done."""
        if self._board is not None:
            self._board.video(step, name, frames, fps)

    @property
    def has_lines(self) -> bool:
        """Whether steps were told, now or before the run was continued."""
        return self._metrics.path.stat().st_size > 0

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
        self._metrics.close()
        self._console.close()


class SilentLog:
    """What processes other than the first have as their `RunLog`: it tells nothing."""

    has_lines = False

    def last_lines(self, count: int) -> list[dict]:
        return []

    def __getattr__(self, name):
        return lambda *arguments, **options: None
