"""A folder as diffusers and transformers write it: a pipeline, or one model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.tasks.text_to_video import SIZE_STEP
from keras_makeavid.text import TextToVideoPreprocessor
from weights_tools.component import (
    Component,
    arguments_of,
    component_from_file,
    find_layout,
)
from weights_tools.configuration import check_size, read_config, reading
from weights_tools.formats import open_tensors
from weights_tools.kinds import MODELS
from weights_tools.source import Source

# The stems that the libraries use, and the formats from the safest on; Flax's last,
# which lies beside PyTorch's where a model was converted to it.
STEM = r"(?:diffusion_pytorch_model|diffusion_flax_model|model|pytorch_model)"
FORMATS = ("safetensors", "bin", "msgpack")


def open_pipeline(
    folder: Path,
    stack: ExitStack,
    overrides: Mapping[str, Any],
    variant: str | None,
) -> Source:
    """Open a folder with `unet/`, `vae/` and so on, or one of these alone.

    Args:
        folder: the folder.
        stack: closes what is opened.
        overrides: arguments of the UNet that are known better.
        variant: variant of the files that is preferred, such as `"fp16"`.

    Raises:
        FileNotFoundError: if there are no weights, or no configuration with them.
        ValueError: if something in it is damaged or not supported.
    """
    parts = [part for part in MODELS if (folder / part).is_dir()]
    if not parts:
        component = _open_folder(folder, None, stack, overrides, variant)
        return Source({component.kind: component})
    source = Source()
    for part in parts:
        component = _open_folder(folder / part, part, stack, overrides, variant)
        source.components[part] = component
    if (folder / "tokenizer").is_dir():
        with reading(folder / "tokenizer"):
            source.preprocessor = TextToVideoPreprocessor.from_hub_folder(str(folder))
    scheduler = folder / "scheduler" / "scheduler_config.json"
    if scheduler.is_file():
        config = read_config(scheduler)
        with reading(scheduler):
            source.schedule = NoiseSchedule.from_diffusers_config(config)
    if {"unet", "vae"} <= source.components.keys():
        source.defaults = _default_size(folder, source.component("vae"))
    return source


def _default_size(folder, vae) -> dict[str, int]:
    """Height and width that the UNet's configuration tells, in pixels as diffusers."""
    path = folder / "unet" / "config.json"
    sample_size = read_config(path).get("sample_size")
    if sample_size is None:
        return {}
    sides = sample_size if isinstance(sample_size, list) else [sample_size] * 2
    factor = 2 ** (len(vae.arguments["block_channels"]) - 1)
    with reading(path):
        check_size(sides)
    height, width = (side * factor for side in sides)
    if height % SIZE_STEP or width % SIZE_STEP:
        # A task would refuse it, where nobody asked for it.
        return {}
    return {"height": height, "width": width}


def find_weights_file(folder: Path, variant: str | None = None) -> Path:
    """The file of weights in the folder of one model, or the index of its shards.

    Args:
        folder: the folder.
        variant: variant that is preferred, such as `"fp16"`; else full precision is.

    Raises:
        FileNotFoundError: if there is none; lists what is there.
    """
    names = sorted(path.name for path in folder.iterdir())
    # transformers and diffusers put the variant in different places of index names.
    pattern = re.compile(
        rf"{STEM}(?:\.(\w+))?\.({'|'.join(FORMATS)})"
        r"(\.index(?:\.(\w+))?\.json|\.(\w+)\.index\.json)?"
    )
    found = []
    for name in names:
        match = pattern.fullmatch(name)
        if match:
            has = next(filter(None, (match[1], match[4], match[5])), None)
            rank = (has != variant, has is not None, FORMATS.index(match[2]))
            found.append((rank, name))
    if not found:
        raise FileNotFoundError(
            f"{folder} has no weights such as diffusion_pytorch_model.safetensors. "
            f"It has {names[:20]}"
        )
    return folder / min(found)[1]


def _open_folder(folder, kind, stack, overrides, variant) -> Component:
    config = folder / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"There is no configuration at {config}")
    file = stack.enter_context(open_tensors(find_weights_file(folder, variant)))
    layout, root = find_layout(file, kind)
    arguments = arguments_of(file, layout, root, config, overrides)
    return component_from_file(file, layout, root, arguments)
