"""Progress bars with rate and time left, on terminals only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    total: int | None, description: str, unit: str = "it", unit_scale: bool = False
) -> Iterator:
    """A tqdm bar on standard error; silent where that is no terminal.

    Args:
        total: number of units of the whole work.
        description: what is done.
        unit: name of a unit.
        unit_scale: whether to count in thousands, millions and so on.

    Yields:
        The bar, with `update(n)`.

    Example:
    ```python
    with progress_bar(10, "encode", unit="clip") as bar:
        bar.update(1)
    ```
    """
    from tqdm import tqdm

    with tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=unit_scale,
        disable=not sys.stderr.isatty(),
    ) as bar:
        yield bar


@contextmanager
def step_progress(
    progress: bool | Callable[[int, int], None],
    total: int,
    description: str = "generate",
    unit: str = "step",
    unit_scale: bool = False,
) -> Iterator[Callable[[int], None] | None]:
    """What steps of a work report to: a bar, a function of the user's, or nothing.

    Args:
        progress: `True` for a bar, `False` for nothing, or a function of
            `(step, total)`.
        total: number of steps.
        description: what is done, for the bar.
        unit: name of a step, for the bar.
        unit_scale: whether the bar counts in thousands, millions and so on.

    Yields:
        A function of the number of steps done, or `None`.

    Example:
    ```python
    with step_progress(print, 20) as report:
        report(1)  # prints 1 20
    ```
    """
    if callable(progress):
        yield lambda step: progress(step, total)
    elif progress and sys.stderr.isatty():
        # Elsewhere nothing would be seen, for a program that calls the host each step.
        with progress_bar(total, description, unit, unit_scale) as bar:
            yield lambda step: bar.update(step - bar.n)
    else:
        yield None
