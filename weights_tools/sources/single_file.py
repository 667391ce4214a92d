"""A file of weights, of one model or of a whole pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from keras_makeavid.schedulers import NoiseSchedule
from weights_tools.component import (
    arguments_of,
    component_from_file,
    find_layout,
    find_layouts,
)
from weights_tools.formats import FormatError, open_tensors
from weights_tools.kinds import MODELS
from weights_tools.source import Source
from weights_tools.sources import kerascv
from weights_tools.sources.pipeline import STEM


def open_file(path: Path, stack: ExitStack, overrides: Mapping[str, Any]) -> Source:
    """Open a file; a `config.json` beside the file of a single model is read too.

    Args:
        path: the file.
        stack: closes what is opened.
        overrides: arguments of the UNet that are known better.

    Raises:
        ValueError: if it is damaged or holds no model that we know.
    """
    file = stack.enter_context(open_tensors(path))
    if kerascv.is_kerascv_file(file):
        return kerascv.open_file(file, overrides)
    found = find_layouts(file)
    if not found:
        # Raises the error that says what is in the file.
        find_layout(file)
    source = Source()
    for layout, root in found:
        if layout.kind in source.components:
            raise FormatError(path, f"holds more than one {layout.kind}")
        config = _config_beside(path, layout) if len(found) == 1 else None
        arguments = arguments_of(file, layout, root, config, overrides)
        component = component_from_file(file, layout, root, arguments)
        source.components[layout.kind] = component
    if source.components.keys() == {"unet", "vae", "text_encoder"}:
        # Stable Diffusion's checkpoints have everything but the vocabulary.
        source.schedule = NoiseSchedule()
    return source


def only_file(folder: Path) -> Path | None:
    """The one checkpoint in a folder that has nothing else of a model, if it is so.

    Args:
        folder: such as the snapshot of a repository of the hub.
    """
    if (folder / "config.json").is_file():
        return None
    if any((folder / part).is_dir() for part in MODELS):
        return None
    files = [p for p in folder.iterdir() if p.suffix in (".ckpt", ".safetensors")]
    # What the libraries name so has a configuration, which is missing.
    if len(files) != 1 or re.fullmatch(STEM, files[0].stem):
        return None
    return files[0]


def _config_beside(path, layout) -> Path | None:
    config = path.parent / "config.json"
    # The one beside our own weights is of Keras.
    if layout.name == "keras" or not config.is_file():
        return None
    return config
