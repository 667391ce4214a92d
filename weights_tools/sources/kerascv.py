"""KerasCV's Stable Diffusion: live models, their `.h5` files, and folders of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_makeavid.schedulers import NoiseSchedule
from weights_tools.component import Component, component_from_file
from weights_tools.formats import (
    FormatError,
    TensorFile,
    TensorSpec,
    open_tensors,
)
from weights_tools.inference import infer_arguments
from weights_tools.kinds import MODELS
from weights_tools.layouts.kerascv import KERASCV_CLASSES, KerasCVClass
from weights_tools.source import Source
from weights_tools.sources.legacy_h5 import is_legacy_h5, layer_weights
from weights_tools.weights import Weights, to_numpy

_FILE_NAMES = tuple(n for c in KERASCV_CLASSES for n in (c.published, c.file))


def is_kerascv_model(model: keras.Model) -> bool:
    """Whether a live model is KerasCV's, which is not imported for that."""
    return any(c.__module__.startswith("keras_cv.") for c in type(model).__mro__)


def is_kerascv_file(file: TensorFile) -> bool:
    """Whether a file is one of KerasCV's: by its names, or by its age."""
    return is_legacy_h5(file) or bool(_classes_in(file))


def is_kerascv_folder(folder: Path) -> bool:
    """Whether a folder has a file of a name that KerasCV or we give."""
    return any((folder / name).is_file() for name in _FILE_NAMES)


def open_models(models: Sequence[keras.Model]) -> Source:
    """See live models of KerasCV as one source.

    Args:
        models: instances of `DiffusionModel`, `Decoder`, `ImageEncoder` and
            `TextEncoder`, at most one of each.

    Raises:
        ValueError: if one is none of these, or two are of one class.
    """
    return _source([(class_of(m), _LiveTensors(m)) for m in models], {})


def open_file(file: TensorFile, overrides: Mapping[str, Any]) -> Source:
    """See a file of one of KerasCV's classes as a source.

    Args:
        file: the open file.
        overrides: arguments of the UNet that are known better.

    Raises:
        FormatError: if it is none.
    """
    return _source([_recognised(file)], overrides)


def open_folder(folder: Path, stack: ExitStack, overrides: Mapping[str, Any]) -> Source:
    """Open a folder of KerasCV's files, by the names that it or we give them.

    Keras's cache of downloads, `~/.keras/models`, is such a folder.

    Args:
        folder: the folder. Other files in it are of no interest.
        stack: closes what is opened.
        overrides: arguments of the UNet that are known better.

    Raises:
        FormatError: if a file is damaged, or two are of one class.
    """
    paths = [folder / name for name in _FILE_NAMES if (folder / name).is_file()]
    files = [stack.enter_context(open_tensors(path)) for path in paths]
    return _source([_recognised(file) for file in files], overrides)


def class_of(model: keras.Model) -> KerasCVClass:
    """Which of KerasCV's classes a live model is of.

    Raises:
        ValueError: if it is of none that has our architecture.
    """
    names = [c.__name__ for c in type(model).__mro__] if is_kerascv_model(model) else []
    for known in KERASCV_CLASSES:
        if known.name in names:
            return known
    raise ValueError(
        f"model must be one of KerasCV's {[c.name for c in KERASCV_CLASSES]}, those of "
        f"Stable Diffusion 1.x. Received: {type(model).__name__}"
    )


def named_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Variables of a live model of KerasCV by their names in its layout.

    Raises:
        ValueError: if its layers are not those of its class.
    """
    layers = [layer.weights for layer in model.layers if layer.weights]
    names = _named(class_of(model), [len(weights) for weights in layers])
    variables = [variable for weights in layers for variable in weights]
    return dict(zip(names, variables, strict=True))


def _named(known: KerasCVClass, counts: Sequence[int]) -> list[str]:
    """Names of all weights, of layers that have so many weights each."""
    expected = known.weight_names()
    if len(counts) != len(expected):
        raise ValueError(
            f"KerasCV's {known.name} has {len(expected)} layers with weights. "
            f"Received: {len(counts)}"
        )
    for names, count in zip(expected, counts, strict=True):
        if count > len(names):
            raise ValueError(
                f"A layer of KerasCV's {known.name} has at most {len(names)} weights, "
                f"{names[0]} and so on. Received: {count}"
            )
    return [n for names, m in zip(expected, counts, strict=True) for n in names[:m]]


def _classes_in(file: TensorFile) -> list[KerasCVClass]:
    return [
        known
        for known in KERASCV_CLASSES
        if known.layout.tensor_name(known.layout.marker) in file.specs
    ]


def _recognised(file: TensorFile) -> tuple[KerasCVClass, TensorFile]:
    """The class that a file is of, and the file with the names of its layout."""
    if is_legacy_h5(file):
        return _in_order(file)
    found = _classes_in(file)
    if len(found) != 1:
        raise FormatError(
            file.path,
            f"must have the weights of one of {[c.name for c in KERASCV_CLASSES]}. "
            f"Received: {len(file.specs)} tensors such as {list(file.specs)[:5]}",
        )
    return found[0], file


def _in_order(file: TensorFile) -> tuple[KerasCVClass, TensorFile]:
    """Name the tensors of a file in which only their order tells what they are."""
    layers = layer_weights(file)
    numbers = {len(known.layers): known for known in KERASCV_CLASSES}
    if len(layers) not in numbers:
        listed = ", ".join(f"{known.name} {n}" for n, known in numbers.items())
        raise FormatError(
            file.path,
            f"has {len(layers)} layers with weights, and no class of KerasCV's Stable "
            f"Diffusion 1.x has so many: {listed}",
        )
    known = numbers[len(layers)]
    tensors = [name for names in layers for name in names]
    for tensor in tensors:
        if tensor not in file.specs:
            raise FormatError(file.path, "is named but not there", tensor=tensor)
    try:
        names = _named(known, [len(names) for names in layers])
    except ValueError as error:
        raise FormatError(file.path, str(error)) from error
    return known, _Renamed(file, dict(zip(names, tensors, strict=True)))


def _source(
    found: Sequence[tuple[KerasCVClass, TensorFile]], overrides: Mapping[str, Any]
) -> Source:
    components: dict[str, Component] = {}
    for known, file in found:
        if known.name in components:
            raise FormatError(
                file.path,
                f"is a second {known.name}, beside {components[known.name].path}",
            )
        components[known.name] = _component(known, file, overrides)
    halves = [components.pop(n) for n in ("Decoder", "ImageEncoder") if n in components]
    if halves:
        components["vae"] = _joined(halves) if len(halves) == 2 else halves[0]
    source = Source({component.kind: component for component in components.values()})
    if source.components.keys() == MODELS.keys():
        # KerasCV's pipeline has everything but the vocabulary, which is CLIP's.
        source.schedule = NoiseSchedule()
    return source


def _component(known, file, overrides) -> Component:
    layout = known.layout
    if layout.kind == "vae":
        # One half alone does not tell the architecture, of which there is but one.
        return component_from_file(file, layout, "", layout.defaults)
    arguments = infer_arguments(file, layout, "")
    if layout.kind == "unet":
        arguments |= overrides
    return component_from_file(file, layout, "", arguments)


def _joined(halves: Sequence[Component]) -> Component:
    first, second = halves

    def read(path):
        half = first if path in first.weights.specs else second
        return half.weights.read(path)

    return replace(
        first,
        weights=Weights({**first.weights.specs, **second.weights.specs}, read),
        path=first.path.with_name(f"{first.path.name} and {second.path.name}"),
    )


class _LiveTensors(TensorFile):
    """The variables of a live model, read like a file."""

    def __init__(self, model: keras.Model):
        self._variables = named_variables(model)
        specs = {
            name: TensorSpec(tuple(v.shape), keras.backend.standardize_dtype(v.dtype))
            for name, v in self._variables.items()
        }
        super().__init__(Path(f"<{model.name}>"), specs)

    def close(self) -> None:
        """Variables need not be closed."""

    def _read(self, name: str) -> np.ndarray:
        return to_numpy(self._variables[name])


class _Renamed(TensorFile):
    """A file whose tensors have other names."""

    def __init__(self, file: TensorFile, names: Mapping[str, str]):
        super().__init__(file.path, {n: file.specs[old] for n, old in names.items()})
        self._file, self._names = file, names

    def close(self) -> None:
        """Who opened the file closes it."""

    def _read(self, name: str) -> np.ndarray:
        return self._file.read(self._names[name])
