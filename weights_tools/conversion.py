"""Checkpoints from one layout to another, and from image to video."""

import math
import re
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_makeavid.files import StrPath, check_replaceable_folder, existing_parent
from keras_makeavid.layers.motion_module import sinusoids
from keras_makeavid.models.unet_pseudo3d import MOTION_MODULES
from keras_makeavid.validation import check_choice, refusal
from weights_tools.architectures import KERNEL_IN, complete
from weights_tools.checkpoint import MOTION, Checkpoint, Component
from weights_tools.formats import TensorFile, TensorSpec
from weights_tools.kerascv import KERASCV_CLASSES, KERASCV_LAYOUTS
from weights_tools.layouts import LAYOUTS
from weights_tools.opening import (
    ANIMATEDIFF_DEFAULTS,
    ANIMATEDIFF_SCHEDULE,
    MOTION_VERSIONS,
    open_source,
)
from weights_tools.saving import DTYPES, save

# Files are written in the one format of their layout.
_CONTAINERS = {
    layout.name: layout.container
    for layout in (*LAYOUTS, *KERASCV_LAYOUTS)
    if not layout.name.endswith(("_old", "_ema"))
}
LAYOUT_NAMES = tuple(_CONTAINERS)
_SUFFIXES = {"safetensors": ".safetensors", "flax_msgpack": ".msgpack", "hdf5": ".h5"}
_NEVER_WRITTEN = (".keras", ".ckpt", ".bin", ".pt", ".pth", ".hdf5")

# What a folder of weights has one of, and a folder of anything else has not.
_MARKERS = ("config.json", "model_index.json", *(c.file for c in KERASCV_CLASSES))

# Arguments that a folder's `config.json` states, so that its readers assume none.
_IN_CONFIG = ("num_heads", "groups", "epsilon")

# Weights of temporal parts that start at random.
_DRAWN = re.compile(
    r"to_[qkv]/kernel$|temporal_modules.*(to_out|proj_in|ff/proj_out)/kernel$"
)


@dataclass(frozen=True)
class ConversionReport:
    """What was written: parts, in a layout, and bytes of weights.

    By part, `dropped` is the number of parameters that the layout cannot hold, and
    `changed` the arguments, such as `gelu`, that other programs which read it have
    otherwise than the source. `left_out` is what no model of ours has a place for.
    """

    out: Path
    layout: str
    parts: tuple[str, ...]
    nbytes: int
    dropped: dict[str, int] = field(default_factory=dict)
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def convert(
    source: StrPath | keras.Model,
    out: StrPath,
    layout: str = "keras",
    *,
    dtype: str | None = None,
    part: str | None = None,
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    base: StrPath | None = None,
    inflating: bool | Literal["auto"] = False,
    motion: StrPath | keras.Model | None = None,
    force: bool = False,
    progress: bool | Callable[[int, int], None] = False,
) -> ConversionReport:
    """Convert weights from any layout to another, and tell what was written.

    Weights are streamed: at most a few tensors are in memory. Where the dtype is
    kept they stay identical bit by bit. The output appears complete or not at all.

    Args:
        source: A file, a folder in our, diffusers' or the hub's layout,
            `hf://owner/name[@revision]`, or a live model.
        out: What to write: a folder, or a file where the name ends in the suffix of
            the layout's format, `.safetensors`, `.msgpack` or `.h5`.
        layout: `"keras"` (a preset of ours), `"makeavid_torch"`, `"makeavid_flax"`,
            `"diffusers"` (the image model: temporal parts are dropped), `"ldm"` or
            `"kerascv"`. Of models with motion modules also `"diffusers_motion"` (a
            `UNetMotionModel`), and `"animatediff"` and `"diffusers_adapter"` (the
            modules alone: all else is dropped).
        dtype: `"float32"`, `"float16"` or `"bfloat16"`; `None` keeps each tensor's.
        part: The one part to convert, such as `"unet"`. `None` converts all.
        variant: As for `open_source`.
        overrides: As for `open_source`.
        base: Source of what `source` lacks, such as the pipeline of a UNet alone, or of
            a file whose tokens are not CLIP's own.
        inflating: `True` makes a video model of the image model first, as `inflate`
            does; `"auto"` does so if the source has an image model.
        motion: Where it inflates: a source of motion modules, such as
            `"mm_sd_v15_v2.ckpt"`, or `"v1"`, `"v2"` or `"v3"` for new ones of that
            form. `None` makes the pseudo-3D model.
        force: Replace what is at `out`.
        progress: `True` shows a bar of bytes; a function gets them as `(done, total)`.

    Raises:
        FileExistsError: There is something at `out`, and not `force`; with it, if
            that is a folder of anything else than weights.
        FileNotFoundError: The source, or the folder to write in, is missing.
        ValueError: The source is damaged or does not fit the layout.
        OSError: The disk is full.

    Example:
    ```python
    pipeline = "hf://stable-diffusion-v1-5/stable-diffusion-inpainting"
    convert("hf://TempoFunk/makeavid-sd-jax", "makeavid", base=pipeline)
    convert("makeavid", "exported", layout="makeavid_torch", dtype="float16")
    ```
    """
    check_choice("inflating", inflating, (True, False, "auto"))
    out = _checked_target(out, layout, dtype, force)
    told, told_of_modules = _told(overrides or {}, motion)
    with ExitStack() as stack:
        checkpoint = _opened(source, part, variant, told, base, stack)
        parts = checkpoint.components
        is_image = "unet" in parts and not parts["unet"].is_video
        if motion is not None:
            modules = _open_motion(motion, told_of_modules, checkpoint, stack)
            parts["unet"] = inflated(checkpoint.component("unet"), modules)
        elif inflating is True or (inflating and is_image):
            parts["unet"] = inflated(checkpoint.component("unet"))
        to_file = out.suffix in _SUFFIXES.values()
        layouts, nbytes = save(
            checkpoint, out, layout, to_file=to_file, dtype=dtype, progress=progress
        )
        stated = () if to_file or layout == "kerascv" else _IN_CONFIG
        dropped = _dropped(checkpoint, layouts)
        changed = _changed(checkpoint, layouts, stated)
        others = dropped, changed, checkpoint.left_out
        return ConversionReport(out, layout, tuple(layouts), nbytes, *others)


def inflate(
    source: StrPath | keras.Model, out: StrPath, layout: str = "keras", **options: Any
) -> ConversionReport:
    """Make a video model of a Stable Diffusion 1.x image model, of the same function.

    A still video gives the image model's output in each frame. A model of 4 channels
    becomes one of 9 by zero weights for mask and hint (see `inflated`). With
    `motion=` it gets motion modules in place of pseudo-3D convolutions, and keeps its
    channels. Of a whole pipeline, and of a checkpoint of LDM, it makes a complete
    `TextToVideo` preset. Arguments and errors are those of `convert`; that the model is
    a video model already is a `ValueError` too.

    Example:
    ```python
    inflate("hf://stable-diffusion-v1-5/stable-diffusion-inpainting", "video_preset")
    task = keras_makeavid.TextToVideo.from_preset("video_preset")
    ```
    """
    return convert(source, out, layout, inflating=True, **options)


def _told(overrides, motion) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of the UNet, and of the motion modules that it is to get."""
    of_modules = {
        key: value
        for key, value in overrides.items()
        if motion is not None and ("motion" in key or key.startswith("residual_norm"))
    }
    return {k: v for k, v in overrides.items() if k not in of_modules}, of_modules


def _open_motion(motion, overrides, checkpoint, stack) -> Component | dict[str, Any]:
    """Motion modules, or arguments of new ones; the checkpoint is told their noise."""
    if motion in MOTION_VERSIONS:
        return {"temporal": MOTION_MODULES, **MOTION_VERSIONS[motion], **overrides}
    opened = stack.enter_context(open_source(motion, overrides=overrides))
    modules = opened.components.get(MOTION) or opened.component("unet")
    checkpoint.schedule = opened.schedule or ANIMATEDIFF_SCHEDULE
    checkpoint.defaults = ANIMATEDIFF_DEFAULTS | opened.defaults | checkpoint.defaults
    return modules


def _opened(source, part, variant, overrides, base, stack) -> Checkpoint:
    """What is to be written, of the source and its base."""
    mine = stack.enter_context(open_source(source, variant, overrides))
    other = Checkpoint()
    if base is not None:
        # The mean is that of the source.
        variant = None if variant == "ema" else variant
        other = stack.enter_context(open_source(base, variant))
    components = {**other.components, **mine.components}
    if part is not None:
        component = mine.component(part)
        # Alone, the UNet of first frames is a UNet like any other.
        components = {component.part: component}
    preprocessor = mine.preprocessor or other.preprocessor
    schedule = mine.schedule or other.schedule
    defaults = {**other.defaults, **mine.defaults}
    return Checkpoint(components, preprocessor, schedule, defaults, mine.left_out)


def _checked_target(out, layout: str, dtype: str | None, force: bool) -> Path:
    check_choice("layout", layout, LAYOUT_NAMES)
    check_choice("dtype", dtype, (*DTYPES, None))
    out = existing_parent(out)
    suffix = _SUFFIXES[_CONTAINERS[layout]]
    if out.suffix != suffix and (
        layout == "ldm" or out.suffix in (*_SUFFIXES.values(), *_NEVER_WRITTEN)
    ):
        folder = "" if layout == "ldm" else ", or the name of a folder"
        expected = f"A file in layout {layout!r} must end in {suffix}{folder}"
        raise refusal(expected, out.name)
    if out.exists() and not force:
        raise FileExistsError(f"{out} exists: give another name, or force")
    if out.is_file() and out.suffix != suffix:
        # A folder replaces no file.
        check_replaceable_folder(out, None)
    if out.is_dir() and not any((out / marker).is_file() for marker in _MARKERS):
        check_replaceable_folder(out, " or ".join(_MARKERS))
    return out


def _dropped(checkpoint: Checkpoint, layouts) -> dict[str, int]:
    lost = {
        part: sum(
            math.prod(spec.shape)
            for path, spec in component.weights.specs.items()
            if part not in layouts or not layouts[part].holds(path)
        )
        for part, component in checkpoint.components.items()
    }
    return {part: number for part, number in lost.items() if number}


def _changed(checkpoint: Checkpoint, layouts, stated) -> dict[str, dict[str, Any]]:
    changed = {
        part: {
            key: value
            for key, value in {**layout.defaults, **layout.assumed}.items()
            if checkpoint.components[part].arguments[key] != value and key not in stated
        }
        for part, layout in layouts.items()
    }
    return {part: others for part, others in changed.items() if others}


def inflated(
    component: Component, motion: Component | Mapping[str, Any] | None = None
) -> Component:
    """Give an image UNet temporal parts: by default pseudo-3D ones that do nothing yet.

    A model of noisy latents alone then gets the channels of an inpainting model, with
    zero weights for mask and hint (docs/model.md). With `motion` they are motion
    modules, those of a component or new ones of these arguments, and channels stay as
    they are (docs/animatediff.md).
    """
    if component.kind != "unet":
        raise ValueError(f"Only a UNet can be inflated. Received: {component.kind}")
    if component.is_video:
        problem = f"{component.path} is a video model already"
        raise ValueError(f"{problem}: convert it instead")
    if motion is None:
        return _with_temporal_parts(_for_inpainting(component), {"temporal": True})
    if not isinstance(motion, Component):
        return _with_temporal_parts(component, motion)
    return _with_temporal_parts(
        component, _motion_arguments(component, motion), motion.weights
    )


def _motion_arguments(component: Component, motion: Component) -> dict[str, Any]:
    """The arguments of motion modules that fit between the parts of an image UNet."""
    if motion.arguments["temporal"] != MOTION_MODULES or not motion.is_video:
        raise ValueError(f"{motion.path} holds no motion modules")
    for key in ("block_channels", "layers_per_block"):
        received, expected = motion.arguments[key], component.arguments[key]
        if received != expected:
            wanted = f"Motion modules for {component.path} must have {key}={expected}"
            raise ValueError(f"{wanted}. Received: {received}, of {motion.path}")
    return {
        key: value
        for key, value in motion.arguments.items()
        if key not in component.arguments or key == "temporal"
    }


def _with_temporal_parts(
    component: Component, told: Mapping[str, Any], temporal: TensorFile | None = None
) -> Component:
    arguments = complete("unet", {**component.arguments, **told})
    component = replace(component, arguments=arguments)
    weights = component.weights
    held = temporal.specs if temporal else {}
    dtype = weights.specs[KERNEL_IN].dtype
    specs = {
        path: weights.specs.get(path) or held.get(path) or TensorSpec(shape, dtype)
        for path, shape in component.shapes.items()
    }

    def read(path):
        if path in weights.specs:
            return weights.read(path)
        if temporal and path in held:
            return temporal.read(path)
        value = _temporal_start(path, specs[path].shape)
        return value.astype(specs[path].numpy_dtype, copy=False)

    return replace(component, weights=TensorFile(component.path, specs, read))


def _temporal_start(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value with which a temporal variable starts, float32; its path is the seed."""
    if path.endswith("embeddings"):
        return sinusoids(*shape)
    if path.endswith("gamma"):
        return np.ones(shape, "float32")
    if path.endswith("temporal_conv/kernel"):
        kernel = np.zeros(shape, "float32")
        kernel[1] = np.eye(shape[1], shape[2])
        return kernel
    if _DRAWN.search(path):
        limit = math.sqrt(6 / sum(shape))
        random = np.random.default_rng(zlib.crc32(path.encode()))
        return random.uniform(-limit, limit, shape).astype("float32")
    return np.zeros(shape, "float32")


def _for_inpainting(component: Component) -> Component:
    latent = component.arguments["out_channels"]
    inpainting = 2 * latent + 1
    received = component.arguments["in_channels"]
    if received == inpainting:
        return component
    if received != latent:
        raise ValueError(
            f"The UNet must take {latent} channels (latents) or {inpainting} (latents, "
            f"mask and hint). Received: {received}"
        )
    return component.with_channels(inpainting)
