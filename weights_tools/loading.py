"""Load a checkpoint's tensors into a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from weights_tools.formats import TensorFile, TensorSpec, open_tensors
from weights_tools.kinds import kind_of, variables_of
from weights_tools.layouts import LAYOUTS, Layout, get_layout
from weights_tools.weights import Weights, weights_from_file


def load_weights(
    model: keras.Model,
    source: Mapping[str, np.ndarray] | str | os.PathLike[str],
    layout: str = "auto",
) -> None:
    """Load weights of a published layout into a model.

    Every name, shape and value is checked before the first weight changes.

    Args:
        model: a built `UNetPseudo3D`, `AutoencoderKL` or `TextEncoder`.
        source: dict of tensor name to array, or the path of a file.
        layout: name of the layout (`"makeavid_torch"`: PyTorch names with
            `.spatial_conv` and `.temporal_conv`), or `"auto"` to tell by the names.

    Raises:
        ValueError: if a tensor is missing, surplus or misshapen (names and shapes
            are listed) or holds NaN or infinity, or no layout fits.
        FileNotFoundError: if there is no file at `source`.

    Example:
    ```python
    unet = weights_tools.unet_from_diffusers_config(config)
    weights_tools.load_weights(unet, "unet/diffusion_pytorch_model.safetensors")
    ```
    """
    is_dict = isinstance(source, Mapping)
    with _Arrays(source) if is_dict else open_tensors(source) as file:
        variables = variables_of(model)
        shapes = {path: tuple(v.shape) for path, v in variables.items()}
        found, root = _best_layout(file, kind_of(model), layout, shapes)
        weights = weights_from_file(file, found, root, shapes)
        check_readable(weights)
        assign(model, weights)


def check_readable(weights: Weights) -> None:
    """Read all weights once, and keep none.

    Args:
        weights: the weights.

    Raises:
        FormatError: if one is damaged, or holds NaN or infinity.
    """
    for path in weights.specs:
        weights.read(path)


def assign(model: keras.Model, weights: Weights) -> None:
    """Assign weights to the variables of a model; those missing stay as they are.

    Args:
        model: the model.
        weights: its weights.
    """
    variables = variables_of(model)
    for path in weights.specs:
        value = weights.read(path)
        if value.dtype.name == "bfloat16":
            # Not every backend takes NumPy's bfloat16; the cast loses nothing.
            value = value.astype("float32")
        variables[path].assign(value)


def _best_layout(file, kind, name, paths) -> tuple[Layout, str]:
    """The layout, and what stands before its names, that names the most tensors."""
    if name == "auto":
        layouts = [layout for layout in LAYOUTS if layout.kind == kind]
    else:
        layouts = [get_layout(kind, name)]
    candidates = [(layout, root) for layout in layouts for root in layout.roots]

    def matches(candidate):
        layout, root = candidate
        return sum(layout.tensor_name(path, root) in file.specs for path in paths)

    best = max(candidates, key=matches)
    if not matches(best):
        raise ValueError(
            f"{file.path}: none of the layouts {[layout.name for layout in layouts]} "
            f"names tensors of a {kind} there. Received: {list(file.specs)[:5]}"
        )
    return best


class _Arrays(TensorFile):
    """A dict of arrays, read like a file."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._arrays = {name: np.asarray(array) for name, array in arrays.items()}
        specs = {n: TensorSpec(a.shape, a.dtype.name) for n, a in self._arrays.items()}
        super().__init__(Path("<dict>"), specs)

    def close(self) -> None:
        """Arrays in memory need not be closed."""

    def _read(self, name: str) -> np.ndarray:
        return self._arrays[name]
