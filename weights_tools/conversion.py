"""Checkpoints from one layout to another, and from image to video."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from keras_makeavid.files import (
    check_replaceable_folder,
    existing_parent,
    folder_written_aside,
)
from keras_makeavid.progress import progress_bar
from keras_makeavid.text import TextToVideoPreprocessor
from weights_tools.copying import check_dtype
from weights_tools.inflation import inflated
from weights_tools.layouts import LAYOUTS
from weights_tools.layouts.kerascv import KERASCV_CLASSES
from weights_tools.opening import open_source
from weights_tools.source import Source
from weights_tools.targets.hub_folder import HubFolderWriter
from weights_tools.targets.kerascv import KerasCVWriter
from weights_tools.targets.preset import PresetWriter
from weights_tools.targets.single_file import SingleFileWriter

LAYOUT_NAMES = tuple(
    dict.fromkeys(layout.name for layout in LAYOUTS if not layout.name.endswith("_old"))
)

# What a folder of weights has one of, and a folder of anything else has not.
_MARKERS = ("config.json", "model_index.json", *(c.file for c in KERASCV_CLASSES))

# Files are written in the one format of their layout.
_SUFFIXES = {"safetensors": ".safetensors", "flax_msgpack": ".msgpack", "hdf5": ".h5"}
_CONTAINERS = {layout.name: layout.container for layout in LAYOUTS}
_NEVER_WRITTEN = (".keras", ".ckpt", ".bin", ".pt", ".pth", ".hdf5")

# What stands in a `config.json` of others, beside the weights in a folder.
_TOLD = ("num_heads", "groups", "epsilon")


@dataclass(frozen=True)
class ConversionReport:
    """What was written.

    Args:
        out: the file or folder.
        layout: its layout.
        parts: parts that were written.
        nbytes: bytes of weights.
        dropped: number of parameters that the layout cannot hold, by part.
        changed: arguments that others who read the layout take to be so, and that are
            otherwise in the source, by part; such as the form of GELU.
    """

    out: Path
    layout: str
    parts: tuple[str, ...]
    nbytes: int
    dropped: dict[str, int] = field(default_factory=dict)
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)


def convert(
    source: str | os.PathLike[str] | keras.Model,
    out: str | os.PathLike[str],
    layout: str = "keras",
    *,
    dtype: str | None = None,
    part: str | None = None,
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    base: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: bool | Callable[[int, int], None] = False,
) -> ConversionReport:
    """Convert weights from any layout to another.

    Weights are streamed: at most a few tensors are in memory. Where the dtype is
    kept they stay identical bit by bit. The output appears complete or not at all.

    Args:
        source: a file, a folder in our, diffusers' or the hub's layout,
            `hf://owner/name[@revision]`, or a live model.
        out: what to write: a folder, or a file where the name ends in the suffix of
            the layout's format, `.safetensors`, `.msgpack` or `.h5`.
        layout: `"keras"` (a preset of ours), `"makeavid_torch"`, `"makeavid_flax"`,
            `"diffusers"` (the image model: temporal parts are dropped), `"ldm"` or
            `"kerascv"`.
        dtype: `"float32"`, `"float16"`, `"bfloat16"`, or `None` to keep each
            tensor's.
        part: the one part to convert, such as `"unet"`; `None` converts all.
        variant: `"fp16"` prefers files of this variant in a diffusers folder.
        overrides: arguments of `UNetPseudo3D` that are known better than the source
            tells, such as `{"transformer_epsilon": 1e-6}`.
        base: source of the parts that `source` does not have, such as the pipeline
            that a UNet alone belongs to.
        tokenizer: folder of the tokenizer, for a source that has none.
        force: replace what is at `out`.
        progress: `True` shows a bar by bytes; a function is called as
            `progress(done, total)`.

    Returns:
        A `ConversionReport`.

    Raises:
        FileExistsError: if there is something at `out`, and not `force`; with it, if
            that is a folder of anything else than weights.
        FileNotFoundError: if the source, or the folder to write in, is missing.
        ValueError: if the source is damaged or does not fit the layout.
        OSError: if the disk is full.

    Example:
    ```python
    convert(
        "hf://TempoFunk/makeavid-sd-jax",
        "makeavid",
        base="hf://stable-diffusion-v1-5/stable-diffusion-inpainting",
    )
    convert("makeavid", "exported", layout="makeavid_torch", dtype="float16")
    ```
    """
    out = _checked_target(out, layout, force)
    check_dtype(dtype)
    with ExitStack() as stack:
        opened = stack.enter_context(open_source(source, variant, overrides))
        chosen = _chosen(opened, part, _base(base, variant, stack), tokenizer)
        return _write(chosen, out, layout, dtype, progress)


def inflate(
    source: str | os.PathLike[str] | keras.Model,
    out: str | os.PathLike[str],
    layout: str = "keras",
    *,
    dtype: str | None = None,
    part: str | None = None,
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    base: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: bool | Callable[[int, int], None] = False,
) -> ConversionReport:
    """Make a video model of a Stable Diffusion 1.x image model, of the same function.

    A still video gives the image model's output in each frame. A model of 4 channels
    becomes one of 9 by zero weights for mask and hint. Of a whole pipeline, and of a
    checkpoint of LDM, it makes a complete `TextToVideo` preset.

    Args:
        source: as for `convert`.
        out: what to write.
        layout: as for `convert`, of those that hold video models.
        dtype: as for `convert`.
        part: as for `convert`.
        variant: as for `convert`.
        overrides: as for `convert`.
        base: as for `convert`.
        tokenizer: as for `convert`.
        force: as for `convert`.
        progress: as for `convert`.

    Returns:
        A `ConversionReport`.

    Raises:
        FileExistsError: as for `convert`.
        FileNotFoundError: as for `convert`.
        ValueError: as for `convert`; also if the model is a video model already.
        OSError: if the disk is full.

    Example:
    ```python
    inflate("hf://stable-diffusion-v1-5/stable-diffusion-inpainting", "video_preset")
    task = keras_makeavid.TextToVideo.from_preset("video_preset")
    ```
    """
    out = _checked_target(out, layout, force)
    check_dtype(dtype)
    with ExitStack() as stack:
        opened = stack.enter_context(open_source(source, variant, overrides))
        chosen = _chosen(opened, part, _base(base, variant, stack), tokenizer)
        chosen.components["unet"] = inflated(chosen.component("unet"))
        return _write(chosen, out, layout, dtype, progress)


def _base(base, variant, stack: ExitStack) -> Source:
    if base is None:
        return Source()
    return stack.enter_context(open_source(base, variant))


def _chosen(source: Source, part, base: Source, tokenizer) -> Source:
    components = {**base.components, **source.components}
    if part is not None:
        component = source.component(part)
        # Alone, the UNet of first frames is a UNet like any other.
        components = {component.kind: component}
    preprocessor = source.preprocessor or base.preprocessor
    if tokenizer is not None:
        preprocessor = TextToVideoPreprocessor.from_hub_folder(os.fspath(tokenizer))
    return Source(
        components,
        preprocessor,
        source.schedule or base.schedule,
        source.defaults or base.defaults,
    )


def _checked_target(out, layout: str, force: bool) -> Path:
    if layout not in LAYOUT_NAMES:
        raise ValueError(f"layout must be one of {LAYOUT_NAMES}. Received: {layout!r}")
    out = existing_parent(out)
    suffix = _SUFFIXES[_CONTAINERS[layout]]
    if out.suffix != suffix and (
        layout == "ldm" or out.suffix in (*_SUFFIXES.values(), *_NEVER_WRITTEN)
    ):
        folder = "" if layout == "ldm" else ", or the name of a folder"
        raise ValueError(
            f"A file in layout {layout!r} must end in {suffix}{folder}. "
            f"Received: {out.name!r}"
        )
    if out.exists() and not force:
        raise FileExistsError(f"{out} exists: give another name, or force")
    if out.is_file() and out.suffix != suffix:
        # A folder replaces no file.
        check_replaceable_folder(out, None)
    if out.is_dir() and not any((out / marker).is_file() for marker in _MARKERS):
        check_replaceable_folder(out, " or ".join(_MARKERS))
    return out


def _write(source: Source, out: Path, layout, dtype, progress) -> ConversionReport:
    to_file = out.suffix in _SUFFIXES.values()
    if layout == "kerascv":
        writer = KerasCVWriter(source, dtype, out.name if to_file else None)
    elif to_file:
        writer = SingleFileWriter(source, layout, dtype)
    elif layout == "keras":
        writer = PresetWriter(source, dtype)
    else:
        writer = HubFolderWriter(source, layout, dtype)
    with _progress(progress, writer.total_bytes) as on_bytes:
        if to_file:
            writer.write(out, on_bytes)
        else:
            with folder_written_aside(out) as folder:
                writer.write(folder, on_bytes)
    told = () if to_file or layout == "kerascv" else _TOLD
    return ConversionReport(
        out,
        layout,
        tuple(writer.layouts),
        writer.total_bytes,
        _dropped(source, writer.layouts),
        _changed(source, writer.layouts, told),
    )


def _dropped(source, layouts) -> dict[str, int]:
    dropped = {}
    for part, component in source.components.items():
        lost = [
            math.prod(spec.shape)
            for path, spec in component.weights.specs.items()
            if part not in layouts or not layouts[part].holds(path)
        ]
        if lost:
            dropped[part] = sum(lost)
    return dropped


def _changed(source, layouts, told) -> dict[str, dict[str, Any]]:
    changed = {}
    for part, layout in layouts.items():
        arguments = source.components[part].arguments
        others = {
            key: value
            for key, value in {**layout.defaults, **layout.assumed}.items()
            if arguments[key] != value and key not in told
        }
        if others:
            changed[part] = others
    return changed


@contextmanager
def _progress(progress, total: int) -> Iterator[Callable[[int], object]]:
    if callable(progress):
        done = 0

        def report(number):
            nonlocal done
            done += number
            progress(done, total)

        yield report
    elif progress:
        with progress_bar(total, "write", unit="B", unit_scale=True) as bar:
            yield bar.update
    else:
        yield lambda number: None
