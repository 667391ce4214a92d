"""A function of many items on several processes, in order."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from keras_makeavid.video.opencv import load_cv2


def map_in_order(
    function: Callable[..., Any], arguments: Iterable[tuple], num_workers: int
) -> Iterator[Any]:
    """Call a function of each tuple of arguments, some ahead of what is asked for.

    Args:
        function: of a module, so that other processes find it.
        arguments: its arguments, call by call; taken when their turn comes.
        num_workers: processes; 0 makes the calls here, one at a time.

    Yields:
        The results in the order of the arguments.

    Raises:
        RuntimeError: if a process was ended from outside.

    Example:
        ```python
        list(map_in_order(pow, [(2, 3), (2, 4)], num_workers=2))  # [8, 16]
        ```
    """
    if num_workers == 0:
        for call in arguments:
            yield function(*call)
        return
    # A copy of this process would share its accelerator and the locks of its threads.
    context = multiprocessing.get_context("spawn")
    pending: deque[tuple[tuple, Future]] = deque()
    with ProcessPoolExecutor(num_workers, context, _prepare_worker) as pool:
        try:
            for call in arguments:
                pending.append((call, pool.submit(function, *call)))
                # One result waits for each worker: more would only take memory.
                if len(pending) > 2 * num_workers:
                    yield _result(*pending.popleft())
            while pending:
                yield _result(*pending.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _result(call, future):
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"A worker process was ended at or shortly after {call[0]}: by the system "
            "for want of memory, or by the file. What was done before is kept"
        ) from error


def end_with_parent(*_) -> None:
    """Let this worker process end when the one that started it does.

    One that was killed cannot tell its workers, and they would wait for it for ever.

    Example:
        ```python
        context = multiprocessing.get_context("spawn")
        ProcessPoolExecutor(2, context, initializer=end_with_parent)
        ```
    """
    parent = multiprocessing.parent_process()

    def wait():
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _prepare_worker():
    end_with_parent()
    # Each process is one of many.
    load_cv2().setNumThreads(1)
