"""Connections between processes that end when one of them does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_SECONDS_TO_CONNECT = 60.0
# In which a process that fails with all others has come to its own end.
_SECONDS_OF_GRACE = 2.0
_FAREWELL = b"."


@contextmanager
def lifeline(
    number: int,
    count: int,
    host: str,
    port_of_first: Callable[[int], int],
    on_lost: Callable[[], None],
) -> Iterator[None]:
    """Notice at once when another process ends before its block has.

    Its system closes its connection to the first process, or the first one's to the
    others. A machine that is gone without a word is not noticed.

    Args:
        number: of this process, from 0.
        count: of all.
        host: of the first process.
        port_of_first: tells all processes the port that the first passes.
        on_lost: called from another thread, while this one may wait for what never
            comes.

    Example:
    ```python
    with lifeline(0, 1, "127.0.0.1", lambda port: port, lambda: print("lost")):
        pass
    ```
    """
    connections = _connected(number, count, host, port_of_first)
    ended = threading.Event()
    for connection in connections:
        watch = (connection, ended, on_lost)
        threading.Thread(target=_watch, args=watch, daemon=True).start()
    try:
        yield
        for connection in connections:
            # The other may have been lost in this very moment.
            with suppress(OSError):
                connection.sendall(_FAREWELL)
    finally:
        ended.set()
        for connection in connections:
            connection.close()


def _connected(number, count, host, port_of_first):
    if number:
        address = host, port_of_first(0)
        connection = socket.create_connection(address, _SECONDS_TO_CONNECT)
        connection.settimeout(None)
        return [connection]
    with socket.create_server(("", 0), backlog=count) as server:
        port_of_first(server.getsockname()[1])
        server.settimeout(_SECONDS_TO_CONNECT)
        connections = [server.accept()[0] for _ in range(1, count)]
    for connection in connections:
        connection.settimeout(None)
    return connections


def _watch(connection, ended, on_lost):
    try:
        told = connection.recv(1)
    except OSError:
        told = b""
    if told:
        return
    time.sleep(_SECONDS_OF_GRACE)
    if not ended.is_set():
        on_lost()
