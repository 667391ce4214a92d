"""Progress bars with rate and time left, on terminals only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def progress_bar(
    total: int | None, description: str, unit: str = "it", unit_scale: bool = False
) -> Any:
    """A tqdm bar on standard error, as a context; silent where that is no terminal."""
    from tqdm import tqdm

    silent = not sys.stderr.isatty()
    return tqdm(
        None, description, total, unit=unit, unit_scale=unit_scale, disable=silent
    )


@contextmanager
def step_progress(
    progress: bool | Callable[[int, int], None],
    total: int,
    description: str = "generate",
    unit: str = "step",
    unit_scale: bool = False,
) -> Iterator[Callable[[int], None] | None]:
    """What steps of a work report to: a bar (`True`), the user's function, or nothing.

    What is given to the block is a function of the number of steps done, or `None`.
    """
    if callable(progress):
        yield lambda step: progress(step, total)
    elif progress and sys.stderr.isatty():
        # Elsewhere nothing would be seen, for a program that calls the host each step.
        with progress_bar(total, description, unit, unit_scale) as bar:
            yield lambda step: bar.update(step - bar.n)
    else:
        yield None
