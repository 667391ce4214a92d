"""Weights from where they are to a file, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from weights_tools.component import Component
from weights_tools.formats import TensorSpec, create_tensors
from weights_tools.layouts import Layout
from weights_tools.weights import all_finite

DTYPES = ("float32", "float16", "bfloat16")

# While one waits for the disk, the other turns; more would only take more memory.
_THREADS = 2


def write_file(
    path: Path,
    parts: Iterable[tuple[Component, Layout, str | None]],
    dtype: str | None = None,
    on_bytes: Callable[[int], object] = lambda number: None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write models into one file.

    Two tensors are on their way at a time.

    Args:
        path: the file; it appears complete or not at all.
        parts: for each model its weights, the layout to write and the root of its
            names (`None` is the layout's own). All layouts have one container.
        dtype: dtype of what is written; `None` keeps each tensor's.
        on_bytes: called with the number of bytes written since the last call.
        metadata: what the file says of itself.

    Raises:
        ValueError: if a value does not fit into `dtype`.
        OSError: if the disk is full.
    """
    jobs = {}
    for component, layout, root in parts:
        container = layout.container
        for path_here, spec in component.weights.specs.items():
            if layout.holds(path_here):
                name = layout.tensor_name(path_here, root)
                jobs[name] = (
                    component,
                    layout,
                    path_here,
                    _target_spec(layout, path_here, spec, dtype),
                )
    specs = {name: job[-1] for name, job in jobs.items()}

    def copy(name):
        component, layout, path_here, spec = jobs[name]
        value = as_dtype(component.weights.read(path_here), spec.dtype, name)
        writer.write(name, layout.to_layout(path_here, value))
        return spec.nbytes

    with (
        create_tensors(path, specs, container, metadata) as writer,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        for nbytes in pool.map(copy, jobs):
            on_bytes(nbytes)


def bytes_to_write(
    parts: Iterable[tuple[Component, Layout, str | None]], dtype: str | None
) -> int:
    """Bytes that `write_file` would write."""
    return sum(
        _target_spec(layout, path, spec, dtype).nbytes
        for component, layout, _ in parts
        for path, spec in component.weights.specs.items()
        if layout.holds(path)
    )


def as_dtype(value: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Cast a tensor, which must not overflow.

    Raises:
        ValueError: if a finite value becomes infinite; names the tensor.
    """
    if value.dtype.name == dtype:
        return value
    target = TensorSpec((), dtype).numpy_dtype
    with np.errstate(over="ignore"):
        cast = value.astype(target)
    if not all_finite(cast):
        raise ValueError(
            f"{name} has values beyond {dtype}: up to {np.abs(value).max():.4g}"
        )
    return cast


def check_dtype(dtype: str | None) -> None:
    """Check a dtype to write.

    Raises:
        ValueError: if weights cannot be written in it.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES} or None. Received: {dtype!r}")


def _target_spec(layout, path, spec, dtype) -> TensorSpec:
    return TensorSpec(layout.shape(path, spec.shape), dtype or spec.dtype)
