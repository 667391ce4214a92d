import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from keras_makeavid.training import lifeline as module
from keras_makeavid.training.lifeline import lifeline

OTHER = """
import os, sys
from lifeline import lifeline
with lifeline(1, 2, "127.0.0.1", lambda port: int(input()), lambda: os._exit(4)):
    print("begun", flush=True)
    if input() == "fail":
        raise ValueError
"""


@pytest.fixture
def other():
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", OTHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # The module alone: its package would import Keras.
        env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parent)},
    )
    yield process
    process.kill()
    process.communicate()


def tell(process, line):
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


@pytest.fixture
def first(other, monkeypatch):
    """The block of the first process, and what it hears."""
    monkeypatch.setattr(module, "_SECONDS_OF_GRACE", 0.1)
    heard = queue.Queue()

    def port_of_first(port):
        tell(other, port)
        return port

    connection = lifeline(0, 2, "", port_of_first, lambda: heard.put("lost"))
    with connection:
        assert other.stdout.readline() == "begun\n"
        yield heard


@pytest.mark.parametrize("end", ["kill", "fail"])
def test_the_end_of_another_process_is_heard_at_once(first, other, end):
    if end == "kill":
        other.kill()
    else:
        tell(other, "fail")
    assert first.get(timeout=60) == "lost"


def test_a_process_that_is_done_is_not_lost(first, other):
    tell(other, "done")
    other.wait(60)
    for thread in threading.enumerate():
        if thread.name.endswith("(_watch)"):
            thread.join(60)
            assert not thread.is_alive()
    assert first.empty()
    assert other.returncode == 0
