"""Models of ours straight from a checkpoint, without a preset in between."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras

from weights_tools.component import Component
from weights_tools.kinds import MODELS
from weights_tools.layouts import get_layout
from weights_tools.loading import assign
from weights_tools.opening import open_source
from weights_tools.targets.checks import check_holds


def load_model(
    source: str | os.PathLike[str],
    part: str | None = None,
    *,
    dtype: str | None = None,
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Load one model of any source that `convert` takes.

    Args:
        source: a file, a folder, or `hf://owner/name[@revision]`.
        part: `"unet"`, `"vae"`, `"text_encoder"` or `"image_unet"`; `None` for a
            source of one model.
        dtype: dtype or dtype policy of the model; Keras's default if `None`.
        variant: `"fp16"` prefers files of this variant in a diffusers folder.
        overrides: arguments of `UNetPseudo3D` that are known better than the source
            tells.

    Returns:
        A `UNetPseudo3D`, `AutoencoderKL` or `TextEncoder`. An image UNet's temporal
        parts are as in a new model: they do nothing.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if the source is damaged, or has no such part.

    Example:
    ```python
    text_encoder = load_model("stable-diffusion-inpainting", part="text_encoder")
    ```
    """
    with open_source(source, variant, overrides) as opened:
        if part is None and len(opened.components) != 1:
            raise ValueError(
                f"part must be one of {sorted(opened.components)}. Received: {part!r}"
            )
        chosen = part or next(iter(opened.components))
        return make_model(opened.component(chosen), dtype)


def make_model(component: Component, dtype: str | None = None) -> keras.Model:
    """Make the model of a component, with its weights.

    Args:
        component: the component, of an open source.
        dtype: dtype or dtype policy of the model; Keras's default if `None`.

    Raises:
        ValueError: if it is half of an autoencoder.
    """
    if component.kind == "vae":
        check_holds(component, get_layout("vae", "keras"))
    model = MODELS[component.kind](**component.arguments, dtype=dtype)
    assign(model, component.weights)
    return model
