"""Load weights of any source into live models of ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_makeavid.files import StrPath
from keras_makeavid.validation import check_choice
from weights_tools.architectures import kind_of, variables_of
from weights_tools.checkpoint import assign_weights, weights_from_file
from weights_tools.formats import TensorFile, TensorSpec, open_tensors
from weights_tools.layouts import get_layout
from weights_tools.opening import find_layout, open_source


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
    kind = kind_of(model)
    name = None if layout == "auto" else get_layout(kind, layout).name
    with _tensors(source) as file:
        shapes = {path: tuple(v.shape) for path, v in variables_of(model).items()}
        weights = weights_from_file(file, *find_layout(file, kind, name), shapes)
        for path in weights.specs:
            weights.read(path)
        assign_weights(model, weights)


def _tensors(source) -> TensorFile:
    if not isinstance(source, Mapping):
        return open_tensors(source)
    arrays = {name: np.asarray(array) for name, array in source.items()}
    specs = {n: TensorSpec(a.shape, a.dtype.name) for n, a in arrays.items()}
    return TensorFile(Path("<dict>"), specs, arrays.__getitem__)
