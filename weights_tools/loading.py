"""Load weights into live models: ours from any source, and KerasCV's."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_makeavid.files import StrPath
from keras_makeavid.validation import check_choice
from weights_tools import kerascv
from weights_tools.architectures import kind_of, variables_of
from weights_tools.checkpoint import assign, assign_weights, misfit, weights_from_file
from weights_tools.formats import TensorFile, TensorSpec, open_tensors
from weights_tools.layouts import LAYOUTS, Layout, get_layout
from weights_tools.opening import open_source


def load_model(
    source: StrPath,
    part: str | None = None,
    *,
    dtype: str | None = None,
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Load one model of any source that `convert` takes.

    An image UNet's temporal parts are as in a new model: they do nothing. `part` is
    `"unet"`, `"vae"`, `"text_encoder"`, `"image_unet"` or `"tiny_vae"`; `None` is for a
    source of one model. The dtype `None` is Keras's default. Other arguments, and
    errors, are those of `open_source`.

    Example:
    ```python
    text_encoder = load_model("stable-diffusion-inpainting", part="text_encoder")
    ```
    """
    with open_source(source, variant, overrides) as opened:
        if part is None and len(opened.components) != 1:
            check_choice("part", part, opened.components)
        chosen = part or next(iter(opened.components))
        return opened.component(chosen).make_model(dtype)


def load_weights(
    model: keras.Model, source: Mapping[str, np.ndarray] | StrPath, layout: str = "auto"
) -> None:
    """Load weights of a published layout into a model.

    Every name, shape and value is checked before the first weight changes.

    Args:
        model: A built `UNetPseudo3D`, `AutoencoderKL` or `TextEncoder`.
        source: Dict of tensor name to array, or the path of a file.
        layout: A layout (`"makeavid_torch"`: PyTorch names with `.spatial_conv` and
            `.temporal_conv`), or `"auto"` to tell by the names.

    Raises:
        FileNotFoundError: There is no file at `source`.
        ValueError: No layout fits; or a tensor is missing, surplus, misshapen, or holds
            NaN or infinity: the text lists names and shapes.

    Example:
    ```python
    unet = weights_tools.unet_from_diffusers_config(config)
    weights_tools.load_weights(unet, "unet/diffusion_pytorch_model.safetensors")
    ```
    """
    with _tensors(source) as file:
        shapes = {path: tuple(v.shape) for path, v in variables_of(model).items()}
        found, root = _best_layout(file, kind_of(model), layout, shapes)
        weights = weights_from_file(file, found, root, shapes)
        weights.check_readable()
        assign_weights(model, weights)


def load_into_kerascv(
    model: keras.Model,
    source: StrPath | keras.Model | Sequence[keras.Model],
    part: str | None = None,
    *,
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> int:
    """Load weights of any source into a live model of KerasCV.

    That is a `DiffusionModel`, `Decoder`, `ImageEncoder` or `TextEncoder`: others, and
    weights that do not fit, are a `ValueError`, before the first weight changes. `part`
    is one to load, such as `"image_unet"`; `None` is that of the model's kind. The rest
    is as for `open_source`.

    Returns:
        Number of parameters that the model has no place for: temporal ones.

    Example:
    ```python
    decoder = keras_cv.models.stable_diffusion.Decoder(512, 512, download_weights=False)
    load_into_kerascv(decoder, "stable-diffusion-inpainting")
    ```
    """
    known = kerascv.class_of(model)
    layout = known.layout
    with open_source(source, variant, overrides) as opened:
        component = kerascv.fitted(opened.component(part or layout.kind))
        variables = kerascv.named_variables(model)
        specs = component.weights.specs
        names = {path: layout.tensor_name(path) for path in specs if layout.holds(path)}
        problem = misfit(
            {name: tuple(variable.shape) for name, variable in variables.items()},
            {n: layout.shape(path, specs[path].shape) for path, n in names.items()},
            layout,
        )
        if problem:
            raise ValueError(f"{component.path} does not fit {known.name}: {problem}")
        component.weights.check_readable()
        for path, name in names.items():
            value = layout.to_layout(path, component.weights.read(path))
            assign(variables[name], value)
    return sum(math.prod(s.shape) for path, s in specs.items() if "temporal" in path)


def _best_layout(file, kind, name, paths) -> tuple[Layout, str]:
    """The layout, and what stands before its names, that names the most tensors."""
    layouts = [
        layout
        for layout in (*LAYOUTS, *kerascv.KERASCV_LAYOUTS)
        if layout.kind == kind and name in ("auto", layout.name)
    ]
    # With none it raises the error that lists them.
    tried = layouts or [get_layout(kind, name)]
    candidates = [(layout, root) for layout in tried for root in layout.roots]

    def matches(candidate):
        layout, root = candidate
        held = filter(layout.holds, paths)
        return sum(layout.tensor_name(path, root) in file.specs for path in held)

    best = max(candidates, key=matches)
    if not matches(best):
        raise ValueError(
            f"{file.path}: none of the layouts {[layout.name for layout in layouts]} "
            f"names tensors of a {kind} there. Received: {list(file.specs)[:5]}"
        )
    return best


def _tensors(source) -> TensorFile:
    if not isinstance(source, Mapping):
        return open_tensors(source)
    arrays = {name: np.asarray(array) for name, array in source.items()}
    specs = {n: TensorSpec(a.shape, a.dtype.name) for n, a in arrays.items()}
    return TensorFile(Path("<dict>"), specs, arrays.__getitem__)
