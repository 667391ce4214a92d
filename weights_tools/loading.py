"""Load a checkpoint's tensors into a model, all or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from weights_tools.layouts import LAYOUTS, Layout, path_in_model

_LISTED = 20


def load_weights(
    model: keras.Model,
    source: Mapping[str, np.ndarray] | str | os.PathLike,
    layout: str = "auto",
) -> None:
    """Load weights of a published layout into a model.

    Every name and shape is checked before the first weight changes.

    Args:
        model: a built model, such as `UNetPseudo3D`.
        source: dict of tensor name to array, or the path of a `.safetensors` file.
        layout: name of the layout (`"makeavid_torch"`: PyTorch names with
            `.spatial_conv` and `.temporal_conv`), or `"auto"` to tell by the names.

    Raises:
        ValueError: if a tensor is missing, surplus or misshapen (names and shapes
            are listed), or no layout fits.
        FileNotFoundError: if there is no file at `source`.

    Example:
    ```python
    unet = weights_tools.unet_from_diffusers_config(config)
    weights_tools.load_weights(unet, "unet/diffusion_pytorch_model.safetensors")
    ```
    """
    if not isinstance(source, Mapping):
        with _open_safetensors(source) as file:
            _load(model, file, layout)
    else:
        _load(model, _Arrays(source), layout)


def _load(model, tensors, layout_name):
    chosen = _choose_layout(model, tensors, layout_name)
    variables = {
        chosen.tensor_name(path_in_model(variable)): variable
        for variable in model.variables
    }
    variables.pop(None, None)
    _check(variables, tensors, chosen)
    for name, variable in variables.items():
        value = chosen.from_layout(path_in_model(variable), tensors.array(name))
        variable.assign(value)


def _choose_layout(model, tensors, name: str) -> Layout:
    if name != "auto":
        if name not in LAYOUTS:
            raise ValueError(
                f"layout must be 'auto' or one of {sorted(LAYOUTS)}. Received: {name!r}"
            )
        return LAYOUTS[name]
    names = tensors.shapes.keys()

    def matches(layout):
        expected = {layout.tensor_name(path_in_model(v)) for v in model.variables}
        return len(expected & names)

    best = max(LAYOUTS.values(), key=matches)
    if matches(best) == 0:
        raise ValueError(
            f"None of the layouts {sorted(LAYOUTS)} names the tensors received. "
            f"Received: {_listing(sorted(names))}"
        )
    return best


def _check(variables, tensors, layout: Layout):
    shapes = tensors.shapes
    expected = {
        name: tuple(
            variable.shape[axis]
            for axis in layout.order(path_in_model(variable), len(variable.shape))
        )
        for name, variable in variables.items()
    }
    problems = {
        "missing": [f"{n} {s}" for n, s in expected.items() if n not in shapes],
        "surplus": [f"{n} {s}" for n, s in shapes.items() if n not in expected],
        "misshapen": [
            f"{n} {shapes[n]}, expected {s}"
            for n, s in expected.items()
            if n in shapes and shapes[n] != s
        ],
    }
    found = [
        f"{len(lines)} {kind}: {_listing(lines)}"
        for kind, lines in problems.items()
        if lines
    ]
    if found:
        raise ValueError(
            f"The tensors do not fit the model in layout {layout.name!r}. "
            + " | ".join(found)
        )


def _listing(lines) -> str:
    more = len(lines) - _LISTED
    return "; ".join(lines[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


class _Arrays:
    """A dict of arrays, read like a file."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._arrays = {name: np.asarray(array) for name, array in arrays.items()}
        self.shapes = {name: array.shape for name, array in self._arrays.items()}

    def array(self, name: str) -> np.ndarray:
        return self._arrays[name]


class _open_safetensors:
    """A memory-mapped safetensors file: shapes from its header, arrays on demand."""

    def __init__(self, path: str | os.PathLike):
        self._path = Path(path)
        if not self._path.is_file():
            raise FileNotFoundError(f"There is no weights file at {self._path}")

    def __enter__(self):
        import ml_dtypes  # noqa: F401  (registers bfloat16 with numpy)
        from safetensors import SafetensorError, safe_open

        try:
            self._file = safe_open(self._path, framework="np")
            names = self._file.keys()
        except SafetensorError as error:
            raise ValueError(
                f"{self._path} is not a readable safetensors file: {error}"
            ) from error
        self.shapes = {n: tuple(self._file.get_slice(n).get_shape()) for n in names}
        return self

    def __exit__(self, *exception):
        del self._file

    def array(self, name: str) -> np.ndarray:
        return self._file.get_tensor(name)
