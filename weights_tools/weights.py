"""The weights of one model in our own names and axes, each read when it is asked for.

What is done to weights on their way (adding temporal parts, casting, ...) is a
function from `Weights` to `Weights`: nothing is read before it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from weights_tools.formats import FormatError, TensorFile, TensorSpec
from weights_tools.kinds import variables_of
from weights_tools.layouts import Layout

_LISTED = 20

_DTYPES = ("float16", "bfloat16", "float32", "float64")

# Bits of the exponent of half precision.
_EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80}
# Elements that are looked at at a time, so that what is computed stays in the cache.
_BLOCK = 2**16


@dataclass(frozen=True)
class Weights:
    """Weights of one model.

    Args:
        specs: shape and dtype of each, by the path of our variable.
        read: returns the array of a path; may be a view of a mapped file.
    """

    specs: Mapping[str, TensorSpec]
    read: Callable[[str], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(spec.nbytes for spec in self.specs.values())


def weights_from_file(
    file: TensorFile,
    layout: Layout,
    root: str,
    shapes: Mapping[str, tuple[int, ...]],
) -> Weights:
    """See a file's tensors as the weights of a model.

    Args:
        file: the open file.
        layout: how it names and orders them.
        root: what stands before every name.
        shapes: shape of each variable of the model by path.

    Returns:
        The weights that the layout holds.

    Raises:
        FormatError: if a tensor is missing, surplus or misshapen; lists names and
            shapes; or if one is no float. Reading one that holds NaN or infinity
            raises it too.
    """
    names = {p: layout.tensor_name(p, root) for p in shapes if layout.holds(p)}
    expected = {names[p]: layout.shape(p, shapes[p]) for p in names}
    problem = misfit(expected, tensors_of(file, layout, root), layout)
    if problem:
        raise FormatError(file.path, problem)
    for name in names.values():
        if file.specs[name].dtype not in _DTYPES:
            raise FormatError(
                file.path,
                f"a weight must be one of {_DTYPES}. Received: "
                f"{file.specs[name].dtype}",
                tensor=name,
            )

    def read(path):
        tensor = file.read(names[path])
        if not all_finite(tensor):
            raise FormatError(file.path, "holds NaN or infinity", tensor=names[path])
        return layout.from_layout(path, tensor, shapes[path])

    specs = {p: TensorSpec(shapes[p], file.specs[n].dtype) for p, n in names.items()}
    return Weights(specs, read)


def tensors_of(
    file: TensorFile, layout: Layout, root: str
) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a file that belong to a model of a layout there."""
    return {
        name: spec.shape
        for name, spec in file.specs.items()
        if name.startswith(root) and not layout.ignores(name)
    }


def weights_of_model(model: keras.Model) -> Weights:
    """See the variables of a live model as weights."""
    variables = variables_of(model)
    specs = {
        path: TensorSpec(tuple(v.shape), keras.backend.standardize_dtype(v.dtype))
        for path, v in variables.items()
    }
    return Weights(specs, lambda path: to_numpy(variables[path]))


def misfit(
    expected: Mapping[str, tuple[int, ...]],
    received: Mapping[str, tuple[int, ...]],
    layout: Layout,
) -> str | None:
    """Say in which names and shapes tensors differ from those expected, if at all."""
    problems = {
        "missing": [f"{n} {s}" for n, s in expected.items() if n not in received],
        "surplus": [f"{n} {s}" for n, s in received.items() if n not in expected],
        "misshapen": [
            f"{n} {received[n]}, expected {s}"
            for n, s in expected.items()
            if n in received and received[n] != s
        ],
    }
    found = [
        f"{len(lines)} {problem}: {_listing(lines)}"
        for problem, lines in problems.items()
        if lines
    ]
    if not found:
        return None
    return (
        f"the tensors do not fit the {layout.kind} in layout {layout.name!r}. "
        + " | ".join(found)
    )


def all_finite(array: np.ndarray) -> bool:
    """Whether an array has neither NaN nor infinity."""
    if array.dtype.name in _EXPONENTS:
        # NaN and infinity are those with all bits of the exponent; NumPy computes in
        # half precision one element at a time.
        exponent = np.uint16(_EXPONENTS[array.dtype.name])
        bits = np.ravel(array, order="K").view("u2")
        kept = np.empty(min(_BLOCK, bits.size), "u2")
        for start in range(0, bits.size, _BLOCK):
            block = bits[start : start + _BLOCK]
            if (
                np.bitwise_and(block, exponent, out=kept[: len(block)]).max()
                == exponent
            ):
                return False
        return True
    # A sum is the quickest look, and finite unless an element is not or it overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        quick = np.isfinite(np.sum(array, dtype="float32"))
    return bool(quick) or bool(np.isfinite(array).all())


def _listing(lines) -> str:
    more = len(lines) - _LISTED
    return "; ".join(lines[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def to_numpy(variable: keras.Variable) -> np.ndarray:
    """The value of a variable in its own dtype."""
    if keras.backend.standardize_dtype(variable.dtype) == "bfloat16":
        # Not every backend gives NumPy its bfloat16; every one casts without loss.
        value = keras.ops.cast(variable, "float32")
        return keras.ops.convert_to_numpy(value).astype(bfloat16())
    return keras.ops.convert_to_numpy(variable)


def bfloat16() -> np.dtype:
    """NumPy's bfloat16, which `ml_dtypes` brings."""
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)
