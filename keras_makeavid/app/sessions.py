"""What each visitor of the page has, and work on a model, which can end."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LIFETIME = 3600.0
# A script that asks for many has each before it goes.
MOST_VIDEOS = 64


@dataclasses.dataclass
class Session:
    """A visitor's own things; nobody can guess the name of the folder."""

    folder: Path
    used: float = 0.0
    shown: Any = None
    history: list[Any] = dataclasses.field(default_factory=list)
    running: set[threading.Event] = dataclasses.field(default_factory=set)

    def keep(self, made: Any) -> None:
        """Show a video, and keep it; the oldest one goes if there are many."""
        self.shown = made
        self.history.append(made)
        while len(self.history) > MOST_VIDEOS:
            shutil.rmtree(self.history.pop(0).folder, ignore_errors=True)

    def new_folder(self) -> Path:
        """Make a folder for one more video."""
        folder = self.folder / secrets.token_urlsafe(16)
        folder.mkdir()
        return folder

    def cancel(self) -> None:
        """Tell all work that runs for the visitor to end."""
        for event in list(self.running):
            event.set()


class Sessions:
    """The sessions of a page, in the folder `root`, where the uploads are as well.

    A session goes, and an upload, so many seconds after its last use.
    """

    def __init__(self, root: Path, lifetime: float = LIFETIME):
        self._root = root
        self._lifetime = lifetime
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def of(self, key: str | None) -> Session:
        """The session of a key that the browser drew, new if it is not known."""
        with self._lock:
            key = key or secrets.token_urlsafe(16)
            if key not in self._sessions:
                folder = self._root / f"session-{secrets.token_urlsafe(16)}"
                folder.mkdir()
                self._sessions[key] = Session(folder)
            self._sessions[key].used = time.time()
            return self._sessions[key]

    def cancel_all(self) -> None:
        """Tell the work of all visitors to end."""
        for session in list(self._sessions.values()):
            session.cancel()

    def clean(self) -> None:
        """Remove sessions that nobody used for their lifetime, and older uploads."""
        oldest = time.time() - self._lifetime
        with self._lock:
            for key, session in list(self._sessions.items()):
                if session.used < oldest and not session.running:
                    shutil.rmtree(session.folder, ignore_errors=True)
                    del self._sessions[key]
            kept = {session.folder for session in self._sessions.values()}
        for path in self._root.iterdir():
            # It may be gone already.
            with contextlib.suppress(FileNotFoundError):
                if path not in kept and path.stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)

    def keep_clean(self, stopped: threading.Event, every: float = 60.0) -> None:
        """Clean now and then, until it is stopped."""
        while not stopped.wait(every):
            self.clean()


class Cancelled(Exception):
    """The visitor does not want the result any more."""


class Worker:
    """Does one work at a time in a thread of its own, on a device if one is named."""

    def __init__(self, device: str | None = None):
        self._device = device
        self._thread = ThreadPoolExecutor(1)

    def steps(
        self, work: Callable[[Callable], Any], running: set[threading.Event]
    ) -> Iterator[Any]:
        """Yield what `work` tells the function that it is given, and then its result.

        `running` has an event while it works. Once that is set, the next that the work
        tells ends it with `Cancelled`.
        """
        told: queue.SimpleQueue = queue.SimpleQueue()
        cancelled, end = threading.Event(), object()

        def tell(value):
            if cancelled.is_set():
                raise Cancelled
            told.put(value)

        def target():
            import keras

            try:
                # Keras's choice of a device is a thread's own.
                device = self._device and keras.device(self._device)
                with device or contextlib.nullcontext():
                    tell(work(tell))
            except Exception as error:
                # XLA wraps what a callback raises.
                if cancelled.is_set():
                    raise Cancelled from error
                raise
            finally:
                told.put(end)

        running.add(cancelled)
        try:
            future = self._thread.submit(target)
            while (value := told.get()) is not end:
                yield value
            future.result()
        finally:
            cancelled.set()
            running.discard(cancelled)

    def end(self) -> None:
        """Wait until the work that runs has ended, and begin none that waits."""
        self._thread.shutdown(cancel_futures=True)
