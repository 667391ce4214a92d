"""Open what weights come from: files, folders, hub repositories and live models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import keras

from keras_makeavid.presets import preset_folder
from weights_tools.hub import HUB_PREFIX, download, known_arguments
from weights_tools.source import Source
from weights_tools.sources import archive, kerascv, live, pipeline, preset, single_file


@contextmanager
def open_source(
    source: str | os.PathLike[str] | keras.Model | Sequence[keras.Model],
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Iterator[Source]:
    """Open what weights come from; no tensor is read yet.

    Args:
        source: path of a file or folder, a preset of the package,
            `hf://owner/name[@revision]`, or a live model: one of ours, a
            `TextToVideo`, or one of KerasCV's; several of KerasCV's in a list.
        variant: `"fp16"` prefers files of this variant in a diffusers folder.
        overrides: arguments of `UNetPseudo3D` that are known better than the source
            tells, such as `{"transformer_epsilon": 1e-6}`.

    Yields:
        A `Source`, valid within the block.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it is damaged or no model that we know; says what was found.

    Example:
    ```python
    with open_source("stable-diffusion-inpainting") as source:
        source.component("unet").arguments["in_channels"]  # 9
    ```
    """
    if isinstance(source, keras.Model):
        yield live.open_model(source)
        return
    if isinstance(source, list | tuple):
        yield kerascv.open_models(source)
        return
    name = os.fspath(source)
    overrides = {**known_arguments(name), **(overrides or {})}
    if name.startswith(HUB_PREFIX):
        path = download(name, variant)
    else:
        path = Path(preset_folder(name))
    with ExitStack() as stack:
        if not path.exists():
            raise FileNotFoundError(f"There is nothing at {path}")
        if path.is_dir() and preset.is_preset(path):
            yield preset.open_preset(path, stack, overrides)
        elif path.is_dir() and kerascv.is_kerascv_folder(path):
            yield kerascv.open_folder(path, stack, overrides)
        elif path.is_dir() and single_file.only_file(path) is not None:
            yield single_file.open_file(single_file.only_file(path), stack, overrides)
        elif path.is_dir():
            yield pipeline.open_pipeline(path, stack, overrides, variant)
        elif archive.is_archive(path):
            yield archive.open_archive(path, stack, overrides)
        else:
            yield single_file.open_file(path, stack, overrides)
