"""What a person sees while it trains."""

from __future__ import annotations

import sys
import time

from keras_makeavid.training.logs.step_log import StepLog

# Where there is no terminal, lines go to files that are read later.
_SECONDS_BETWEEN_LINES = 30.0


class ConsoleLog:
    """A progress bar on a terminal; a line now and then where there is none.

    Args:
        total: steps of the whole run.

    Example:
    ```python
    console = ConsoleLog(total=1000)
    console.message("stage warm: 1000 steps")
    console.close()
    ```
    """

    def __init__(self, total: int):
        from tqdm import tqdm

        self._total = total
        self._shown = -float("inf")
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            desc="train",
            unit="step",
            disable=not self._terminal,
        )

    def go_on_at(self, step: int) -> None:
        """Begin, or go back to, after so many steps."""
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
        """Say something in a line of its own."""
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
