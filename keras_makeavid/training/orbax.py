"""Orbax, without what it tells of failures that are reported here in a line."""

from __future__ import annotations

import logging
import sys
from types import ModuleType


def import_orbax() -> ModuleType:
    """Import `orbax.checkpoint`.

    Raises:
        ImportError: if it is missing; names the extra.

    Example:
    ```python
    import_orbax().CheckpointManager
    ```
    """
    try:
        import orbax.checkpoint
    except ImportError as error:
        raise ImportError(
            "Checkpoints are written by Orbax: pip install 'keras-makeavid[train]'"
        ) from error
    _leave_out_tracebacks()
    _ignore_late_answers()
    return orbax.checkpoint


class _NotOrbax(logging.Filter):
    def filter(self, record):
        return "orbax" not in record.pathname and "orbax" not in record.getMessage()


def _leave_out_tracebacks():
    """It logs pages of traceback before it raises, and asyncio those of each array."""
    for name in ("absl", "asyncio"):
        logger = logging.getLogger(name)
        if not any(isinstance(known, _NotOrbax) for known in logger.filters):
            logger.addFilter(_NotOrbax())


_LATE_ANSWERS = ("Event loop is closed", "Encountered error while reading array")


class _HookWithoutLateAnswers:
    def __init__(self, before):
        self._before = before

    def __call__(self, unraisable):
        if not str(unraisable.exc_value).startswith(_LATE_ANSWERS):
            self._before(unraisable)


def _ignore_late_answers():
    """After the first array that fails it closes the loop that others answer to."""
    if not isinstance(sys.unraisablehook, _HookWithoutLateAnswers):
        sys.unraisablehook = _HookWithoutLateAnswers(sys.unraisablehook)
