"""KerasCV's Stable Diffusion: files that its classes load, and its live models."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from weights_tools.component import Component
from weights_tools.copying import bytes_to_write, write_file
from weights_tools.inflation import narrowed
from weights_tools.kinds import MODELS
from weights_tools.layouts import Layout, get_layout
from weights_tools.layouts.kerascv import KERASCV_CLASSES
from weights_tools.loading import check_readable
from weights_tools.opening import open_source
from weights_tools.source import Source
from weights_tools.sources.kerascv import class_of, named_variables
from weights_tools.weights import misfit

# Which of Keras's two formats a file is read as, it tells by this.
_SUFFIX = ".weights.h5"

# What KerasCV's classes compute in their own way, whatever the weights were made for.
_OWN_WAY = {"gelu", "epsilon", "transformer_epsilon", "layer_norm_epsilon"}


class KerasCVWriter:
    """Writes a source as files that KerasCV's classes load by `load_weights`.

    Args:
        source: the models. Of an autoencoder, `Decoder` and `ImageEncoder` have a file
            each.
        dtype: dtype of the weights; `None` keeps each tensor's.
        file_name: name of the one file to write; `None` writes a folder.

    Raises:
        ValueError: if KerasCV's classes cannot hold the models, or one file not all.
    """

    def __init__(self, source: Source, dtype: str | None, file_name: str | None):
        # A task's second UNet has no place, but may be converted by itself.
        parts = source.components.keys() & MODELS.keys() or source.components.keys()
        fitted = {part: fit(source.components[part]) for part in parts}
        self.layouts = {p: get_layout(c.kind, "kerascv") for p, c in fitted.items()}
        self._files = {
            known.file: (component, known.layout, None)
            for known in KERASCV_CLASSES
            for component in fitted.values()
            if _has(component, known.layout)
        }
        self._dtype = dtype
        self._file_name = file_name
        if file_name is not None:
            self._check_one(file_name)
        self.total_bytes = bytes_to_write(self._files.values(), dtype)

    def write(self, path: Path, on_bytes: Callable[[int], object]) -> None:
        """Write everything.

        Args:
            path: an empty folder, or the file.
            on_bytes: called with the number of bytes written since the last call.
        """
        for name, job in self._files.items():
            target = path / name if self._file_name is None else path
            write_file(target, [job], self._dtype, on_bytes)

    def _check_one(self, file_name):
        if not file_name.endswith(_SUFFIX):
            raise ValueError(
                f"The name of a file for KerasCV must end in {_SUFFIX}, by which Keras "
                f"tells its formats apart. Received: {file_name!r}"
            )
        if len(self._files) != 1:
            raise ValueError(
                f"{sorted(self._files)} do not fit into one file: name a folder, or "
                "the part"
            )


def load_into_kerascv(
    model: keras.Model,
    source: str | os.PathLike[str] | keras.Model | Sequence[keras.Model],
    part: str | None = None,
    *,
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> int:
    """Load weights of any source into a live model of KerasCV.

    All is checked before the first weight changes.

    Args:
        model: KerasCV's `DiffusionModel`, `Decoder`, `ImageEncoder` or `TextEncoder`.
        source: as for `convert`.
        part: the part of the source to load, such as `"image_unet"`; `None` takes the
            one of the model's kind.
        variant: as for `convert`.
        overrides: as for `convert`.

    Returns:
        Number of parameters that the model has no place for: temporal ones.

    Raises:
        FileNotFoundError: if there is no source.
        ValueError: if the model is none of these, or the weights do not fit it.

    Example:
    ```python
    decoder = keras_cv.models.stable_diffusion.Decoder(512, 512, download_weights=False)
    load_into_kerascv(decoder, "stable-diffusion-inpainting")
    ```
    """
    known = class_of(model)
    layout = known.layout
    with open_source(source, variant, overrides) as opened:
        component = fit(opened.component(part or layout.kind))
        variables = named_variables(model)
        specs = component.weights.specs
        names = {path: layout.tensor_name(path) for path in specs if layout.holds(path)}
        problem = misfit(
            {name: tuple(variable.shape) for name, variable in variables.items()},
            {
                name: layout.shape(path, specs[path].shape)
                for path, name in names.items()
            },
            layout,
        )
        if problem:
            raise ValueError(f"{component.path} does not fit {known.name}: {problem}")
        check_readable(component.weights)
        for path, name in names.items():
            value = layout.to_layout(path, component.weights.read(path))
            if value.dtype.name == "bfloat16":
                # Not every backend takes NumPy's bfloat16; the cast loses nothing.
                value = value.astype("float32")
            variables[name].assign(value)
    return sum(math.prod(s.shape) for path, s in specs.items() if "temporal" in path)


def fit(component: Component) -> Component:
    """Make a model one whose weights KerasCV's class holds.

    Args:
        component: the model.

    Returns:
        The model; a UNet without channels that it does not look at. KerasCV's class
        may still have other epsilons and another GELU.

    Raises:
        ValueError: if it has another architecture than KerasCV's, which has one size.
    """
    if component.kind == "unet":
        component = narrowed(component)
    layout = get_layout(component.kind, "kerascv")
    arguments = component.arguments
    differing = {
        key: arguments[key]
        for key, only in layout.defaults.items()
        if arguments[key] != only and key not in _OWN_WAY
    }
    if differing:
        raise ValueError(
            f"{component.path} is no {layout.kind} that KerasCV has: it has only "
            f"{ {key: layout.defaults[key] for key in differing} }. "
            f"Received: {differing}"
        )
    return replace(component, layout=layout.name)


def _has(component: Component, layout: Layout) -> bool:
    """Whether a model has the weights of a file: of an autoencoder, maybe one half."""
    if component.kind != layout.kind:
        return False
    return any(layout.holds(path) for path in component.weights.specs)
