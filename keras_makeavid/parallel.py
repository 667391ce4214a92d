"""A function of many items on several processes, in order."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any

from keras_makeavid.video.opencv import load_cv2


def map_in_order(
    function: Callable[..., Any], arguments: Iterable[tuple], num_workers: int
) -> Iterator[Any]:
    """Call a module's function with each tuple of arguments, in workers if any."""
    if num_workers == 0:
        for call in arguments:
            yield function(*call)
        return
    done: Any = "the first"
    with worker_pool(num_workers, _use_one_thread) as pool:
        started = ((call, pool.submit(function, *call)) for call in arguments)
        try:
            # One result waits for each worker: more would only take memory.
            for call, future in taken_ahead(started, 2 * num_workers):
                done = call[0]
                yield future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f"A worker process was ended at or shortly after {done}: by the system "
                "for want of memory, or by the file. What was done before is kept"
            ) from error


def taken_ahead(items: Iterable[Any], count: int) -> Iterator[Any]:
    """Give each item when `count` others have been taken after it."""
    taken: deque[Any] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > count:
            yield taken.popleft()
    yield from taken


@contextmanager
def worker_pool(
    num_workers: int, prepare: Callable[..., None], *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one; each calls `prepare(*arguments)` first."""
    # A copy of this process would share its accelerator and the locks of its threads.
    context = multiprocessing.get_context("spawn")
    begin = (prepare, arguments)
    pool = ProcessPoolExecutor(num_workers, context, _begin_worker, begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker(prepare, arguments):
    # A process that was killed cannot tell its workers, which would wait for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare(*arguments)


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def _use_one_thread():
    # Each process is one of many. Where OpenCV cannot be loaded, what needs it says so.
    with suppress(ImportError):
        load_cv2().setNumThreads(1)
