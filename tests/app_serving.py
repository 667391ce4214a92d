"""Starts the page in a process of its own, as `makeavid app` does."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time


@contextlib.contextmanager
def served(*options, log):
    """The address and the process of a page; it is told to stop at the end."""
    command = [sys.executable, "-u", "-m", "keras_makeavid", "app", *map(str, options)]
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    with open(log, "w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        for _ in range(3000):
            found = re.search(r"http://\S+", log.read_text())
            if found or process.poll() is not None:
                break
            time.sleep(0.1)
        assert found, log.read_text()
        yield found[0].rstrip("/"), process
    finally:
        process.send_signal(signal.SIGINT)
        stopper = threading.Timer(60, process.kill)
        stopper.start()
        code = process.wait()
        stopper.cancel()
    assert code == 0, log.read_text()


def memory_of(process):
    """The resident memory of a process in MB."""
    with open(f"/proc/{process.pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024
