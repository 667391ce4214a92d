"""A checkpoint: models in one place, each with its architecture and its weights.

Weights have our names and axes, and are read only when they are asked for or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np

from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.text import TextToVideoPreprocessor
from weights_tools import architectures
from weights_tools.configs import architecture
from weights_tools.formats import TensorFile, TensorSpec
from weights_tools.layouts import Layout, get_layout

# The part of motion modules that come without a UNet.
MOTION = "motion"

# Files of a preset, as KerasHub names them.
WEIGHTS_FILE = "model.weights.h5"
TASK_FILE = "task.json"
TASK_WEIGHTS_FILE = "task.weights.h5"

# Parts of a task by the argument of `TextToVideo`, which is their place in the file.
TASK_PARTS = {
    "text_encoder": "text_encoder",
    "vae": "vae",
    "image_backbone": "image_unet",
}

# What a file says of its models, as JSON: the arguments of each kind. Shapes tell
# neither the number of heads nor what is computed otherwise.
METADATA = "makeavid_config"

FLOATS = ("float16", "bfloat16", "float32", "float64")

# Bits of the exponent of half precision.
_EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80}
# Elements that are looked at at a time, so that what is computed stays in the cache.
_BLOCK = 2**16


@dataclass(frozen=True)
class Component:
    """One model of a checkpoint."""

    kind: str  # `"unet"`, `"vae"`, `"text_encoder"` or `"tiny_vae"`.
    layout: str  # Name of the layout that it comes in.
    arguments: dict[str, Any]  # Of our class.
    weights: TensorFile  # By the path of our variable, as far as the layout has them.

    @property
    def path(self) -> Path:
        """Where it comes from, for messages."""
        return self.weights.path

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all variables that the model has, held here or not."""
        return architectures.shapes_of(self.kind, self.arguments)

    @property
    def part(self) -> str:
        """What it is where it comes alone: its kind, or motion modules alone."""
        is_unet = self.kind != "unet" or architectures.KERNEL_IN in self.weights.specs
        return self.kind if is_unet else MOTION

    @property
    def is_video(self) -> bool:
        """Whether it has temporal parts."""
        return any("temporal" in path for path in self.weights.specs)

    def require_layout(self, name: str) -> Layout:
        """Return the named layout, but refuse it if the model lacks weights of it."""
        layout = get_layout(self.kind, name)
        specs = self.weights.specs
        if self.is_video and layout.temporal not in (None, self.arguments["temporal"]):
            raise ValueError(
                f"{self.path} has temporal parts of another kind than layout "
                f"{name!r}. Received: temporal={self.arguments['temporal']!r}"
            )
        missing = [p for p in self.shapes if layout.holds(p) and p not in specs]
        if missing and self.kind == "vae":
            raise ValueError(
                f"{self.path} is one half of an autoencoder, without {missing[0]}: "
                "give the files of KerasCV's Decoder and ImageEncoder in one folder"
            )
        if missing and self.part == MOTION:
            problem = f"{self.path} holds motion modules alone"
            raise ValueError(f"{problem}: inflate an image model with them, by motion=")
        if missing:
            raise ValueError(
                f"{self.path} is an image model, and layout {layout.name!r} is of "
                "video models: inflate it first"
            )
        return layout

    def with_channels(self, channels: int) -> Component:
        """The UNet with zero weights for further channels, or without the last ones."""
        arguments = {**self.arguments, "in_channels": channels}
        shape = architectures.shapes_of("unet", arguments)[architectures.KERNEL_IN]
        held = self.weights

        def read(path):
            value = held.read(path)
            if path != architectures.KERNEL_IN:
                return value
            resized = np.zeros(shape, value.dtype)
            both = min(channels, value.shape[2])
            resized[:, :, :both] = value[:, :, :both]
            return resized

        spec = TensorSpec(shape, held.specs[architectures.KERNEL_IN].dtype)
        specs = {**held.specs, architectures.KERNEL_IN: spec}
        weights = TensorFile(self.path, specs, read)
        return replace(self, arguments=arguments, weights=weights)

    def make_model(self, dtype: str | None = None) -> keras.Model:
        """Make the model with its weights; `None` is Keras's default dtype."""
        if self.kind == "vae" or self.part == MOTION:
            self.require_layout("keras")
        model = architectures.KINDS[self.kind](**self.arguments, dtype=dtype)
        assign_weights(model, self.weights)
        return model


@dataclass
class Checkpoint:
    """Models found in one place, and what belongs to a pipeline besides."""

    # By part: `"unet"`, `"vae"`, `"text_encoder"`, `"image_unet"` (of first frames) or
    # `"motion"` (motion modules alone).
    components: dict[str, Component] = field(default_factory=dict)
    preprocessor: TextToVideoPreprocessor | None = None
    schedule: NoiseSchedule | None = None
    defaults: dict[str, Any] = field(default_factory=dict)  # Of `TextToVideo`, if told.
    left_out: tuple[str, ...] = ()  # What no model of ours has a place for.

    def component(self, part: str) -> Component:
        """The model that plays a part; `ValueError` if there is none."""
        if part not in self.components:
            expected = f"There is no {part} in the source"
            raise ValueError(f"{expected}. Received: {sorted(self.components)}")
        return self.components[part]


def component_from_file(
    file: TensorFile,
    layout: Layout,
    root: str,
    arguments: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
) -> Component:
    """View a model in a file; `overrides` are arguments of a UNet known better."""
    if layout.kind == "unet":
        arguments = {**arguments, **(overrides or {})}
    arguments = architectures.complete(layout.kind, arguments)
    shapes = architectures.shapes_of(layout.kind, arguments)
    weights = weights_from_file(file, layout, root, shapes)
    return Component(layout.kind, layout.name, arguments, weights)


def component_of_model(model: keras.Model) -> Component:
    """View a live model of ours as a component; a `ValueError` if it has adapters."""
    kind = architectures.kind_of(model)
    if any(getattr(layer, "lora_enabled", False) for layer in model._flatten_layers()):
        expected = "A model to convert must have its adapters merged, as in files"
        raise ValueError(f"{expected}: save_to_preset merges them. Received: {model}")
    arguments = architectures.complete(kind, architecture(model.get_config()))
    weights = tensors_of_model(model, architectures.variables_of(model))
    return Component(kind, "keras", arguments, weights)


def tensors_of_model(
    model: keras.Model, variables: Mapping[str, keras.Variable]
) -> TensorFile:
    """View the variables of a live model as a file, under the given names."""
    specs = {
        name: TensorSpec(tuple(v.shape), keras.backend.standardize_dtype(v.dtype))
        for name, v in variables.items()
    }
    return TensorFile(
        Path(f"<{model.name}>"), specs, lambda name: _to_numpy(variables[name])
    )


def weights_from_file(
    file: TensorFile, layout: Layout, root: str, shapes: Mapping[str, tuple[int, ...]]
) -> TensorFile:
    """View a file's tensors as the weights of a model, of these shapes by path.

    A tensor that is missing, surplus, misshapen or no float is a `FormatError` that
    lists names and shapes; reading one that holds NaN or infinity raises it too.
    """
    names = {p: layout.tensor_name(p, root) for p in shapes if layout.holds(p)}
    expected = {names[p]: layout.shape(p, shapes[p]) for p in names}
    received = {
        name: spec.shape
        for name, spec in file.specs.items()
        if name.startswith(root) and not layout.ignores(name)
    }
    for path, name in names.items():
        shape = received.get(name, (0,))
        if path.endswith("kernel") and alike(shape, expected[name]):
            received[name] = expected[name]
    problem = misfit(expected, received, layout)
    if problem:
        raise file.error(problem)
    for name in names.values():
        check_floats(file, name)

    def read(path):
        tensor = read_floats(file, names[path]).reshape(expected[names[path]])
        return layout.from_layout(path, tensor, shapes[path])

    specs = {p: TensorSpec(shapes[p], file.specs[n].dtype) for p, n in names.items()}
    return TensorFile(file.path, specs, read)


def alike(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether shapes differ in axes of size 1 alone, as a matrix and a convolution."""
    sizes = [[size for size in shape if size != 1] for shape in (first, second)]
    return sizes[0] == sizes[1]


def check_floats(file: TensorFile, name: str, dtypes: Sequence[str] = FLOATS) -> None:
    """Check that a tensor is of floats, or of these dtypes."""
    dtype = file.specs[name].dtype
    if dtype not in dtypes:
        raise file.error(f"must be one of {dtypes}. Received: {dtype}", tensor=name)


def read_floats(
    file: TensorFile, name: str, dtypes: Sequence[str] = FLOATS
) -> np.ndarray:
    """Read a tensor, which must be of these dtypes and finite."""
    check_floats(file, name, dtypes)
    value = file.read(name)
    if not all_finite(value):
        raise file.error("holds NaN or infinity", tensor=name)
    return value


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
    found = told(problems)
    if not found:
        return None
    model = f"{layout.kind} in layout {layout.name!r}"
    return f"the tensors do not fit the {model}. {found}"


def told(problems: Mapping[str, Sequence[str]], most: int = 20) -> str:
    """How many cases there are of each problem, and the first; empty with none."""
    return " | ".join(
        f"{len(cases)} {problem}: {'; '.join(cases[:most])}"
        + (f"; and {len(cases) - most} more" if len(cases) > most else "")
        for problem, cases in problems.items()
        if cases
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
            masked = np.bitwise_and(block, exponent, out=kept[: len(block)])
            if masked.max() == exponent:
                return False
        return True
    # A sum is the quickest look, and finite unless an element is not or it overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        quick = np.isfinite(np.sum(array, dtype="float32"))
    return bool(quick) or bool(np.isfinite(array).all())


def _to_numpy(variable: keras.Variable) -> np.ndarray:
    """The value of a variable in its own dtype."""
    if keras.backend.standardize_dtype(variable.dtype) == "bfloat16":
        # Not every backend gives NumPy its bfloat16; every one casts without loss.
        value = keras.ops.cast(variable, "float32")
        return keras.ops.convert_to_numpy(value).astype(ml_dtypes.bfloat16)
    return keras.ops.convert_to_numpy(variable)


def assign(variable: keras.Variable, value: np.ndarray) -> None:
    """Assign an array to a variable, in any dtype."""
    if value.dtype.name == "bfloat16":
        # Not every backend takes NumPy's bfloat16; the cast loses nothing.
        value = value.astype("float32")
    variable.assign(value)


def assign_weights(model: keras.Model, weights: TensorFile) -> None:
    """Assign weights to the variables of a model; those missing stay as they are."""
    variables = architectures.variables_of(model)
    for path in weights.specs:
        assign(variables[path], weights.read(path))
