"""How far a script is, in lines that a log shows too."""

import importlib
import os
import sys
import threading
import time


class Progress:
    """Prints each step that is done, and between them what is being done.

    Where nothing was printed for `every` seconds, a line says what the script is at:
    compiling can take longer than that.

        with Progress() as progress:
            progress.at("reading")
            progress.done("everything is read")
    """

    def __init__(self, every: float = 10.0):
        self._every = every
        self._start = time.monotonic()
        self._at = "starting"
        self._news = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended = True
        self._news.set()
        self._thread.join()

    def at(self, what: str) -> None:
        """Say what is being done, without a line of its own."""
        self._at = what

    def done(self, what: str) -> None:
        """Print a step that is done and the seconds since the start."""
        print(f"[{time.monotonic() - self._start:4.0f} s] {what}", flush=True)
        self._news.set()

    def _tell(self):
        while not self._ended:
            if not self._news.wait(self._every):
                self.done(f"... {self._at}")
            self._news.clear()


def import_quietly(*names: str) -> None:
    """Import modules without the chatter of the TensorFlow that KerasHub imports.

    It is written past Python, by code that no environment variable reaches.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
