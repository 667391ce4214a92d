"""`metrics.jsonl`: one line a step, consistent with the checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_makeavid.training.logs.step_log import StepLog


class MetricsFile:
    """A file of one JSON object a line.

    A line is on its way to the disk when `write` returns, so that a killed process
    loses none. Lines that a full disk refuses are kept and written later.

    Args:
        path: the file, continued if it is there.
        report: told of lines that could not be written.

    Example:
    ```python
    metrics = MetricsFile("metrics.jsonl")
    metrics.cut_after(1200)  # where the run is continued
    metrics.close()
    ```
    """

    def __init__(self, path: str | os.PathLike, report: Callable[[str], None] = print):
        self.path = Path(path)
        self._report = report
        self._waiting = b""
        self._file = self.path.open("ab", buffering=0)

    def write(self, log: StepLog) -> None:
        """Append a line."""
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
            if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                break
            kept += len(line)
        self._file.truncate(min(kept, len(written)))
        self._waiting = lines[len(written) : kept]

    def last(self, count: int) -> list[dict[str, Any]]:
        """The last lines, oldest first."""
        lines = (self.path.read_bytes() + self._waiting).splitlines()
        return [json.loads(line) for line in lines[-count:]]

    def close(self) -> None:
        self._file.close()


def read_metrics(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, whether its run has ended or not.

    Args:
        path: the file.

    Yields:
        A dict of each line that is whole.

    Example:
        ```python
        losses = [line["loss"] for line in read_metrics("run/metrics.jsonl")]
        ```
    """
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
