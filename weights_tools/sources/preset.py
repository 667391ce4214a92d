"""A preset folder of ours: a whole task, or one model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.tasks.text_to_video import TASK_DEFAULTS
from keras_makeavid.text import TextToVideoPreprocessor
from weights_tools.component import (
    component_from_file,
    find_layout,
    find_layouts,
)
from weights_tools.configuration import (
    architecture,
    check_arguments,
    read_config,
    reading,
)
from weights_tools.formats import FormatError, open_tensors
from weights_tools.kinds import MODELS, complete
from weights_tools.source import Source

WEIGHTS = "model.weights.h5"
TASK = "task.json"
TASK_WEIGHTS = "task.weights.h5"

# Parts of a task by the argument of `TextToVideo`, which is also their place in the
# file of its weights.
TASK_PARTS = {
    "text_encoder": "text_encoder",
    "vae": "vae",
    "image_backbone": "image_unet",
}


def is_preset(folder: Path) -> bool:
    """Whether a folder is a preset."""
    return (folder / WEIGHTS).is_file() or (folder / TASK).is_file()


def open_preset(folder: Path, stack: ExitStack, overrides: Mapping[str, Any]) -> Source:
    """Open a preset.

    Args:
        folder: the preset folder.
        stack: closes what is opened.
        overrides: arguments of the UNet that are known better.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if something in it is damaged.
    """
    kind, arguments = model_in(folder / "config.json")
    file = stack.enter_context(open_tensors(folder / WEIGHTS))
    source = Source()
    layout, root = find_layout(file, kind, "keras")
    if kind == "unet":
        arguments |= overrides
    source.components[kind] = component_from_file(file, layout, root, arguments)
    if (folder / TASK).is_file():
        _open_task(folder, stack, source)
    return source


def _open_task(folder, stack, source):
    path = folder / TASK
    task = read_config(path).get("config")
    if not isinstance(task, dict):
        raise FormatError(path, "is no task's configuration")
    file = stack.enter_context(open_tensors(folder / TASK_WEIGHTS))
    for layout, root in find_layouts(file):
        part = root.split("/")[0]
        with reading(path):
            kind, arguments = _arguments_of_config(task.get(part))
        if kind != layout.kind:
            raise FormatError(path, f"has a {kind} for its {part}")
        component = component_from_file(file, layout, root, arguments)
        source.components[TASK_PARTS[part]] = component
    with reading(folder / "preprocessor.json"):
        source.preprocessor = TextToVideoPreprocessor.from_preset(str(folder))
    if not isinstance(task.get("schedule"), dict):
        raise FormatError(path, "has no schedule")
    # Presets of the first version tell of the size only.
    source.defaults = {key: task[key] for key in TASK_DEFAULTS if key in task}
    with reading(path):
        source.schedule = NoiseSchedule.from_config(task["schedule"])
        check_arguments("task", source.defaults)


def model_in(path: Path) -> tuple[str, dict[str, Any]]:
    """Kind and arguments of the model that a `config.json` of Keras describes.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if it is missing.
        FormatError: if it is of none of our models.
    """
    config = read_config(path)
    with reading(path):
        return _arguments_of_config(config)


def _arguments_of_config(config: Any) -> tuple[str, dict[str, Any]]:
    name = config.get("class_name") if isinstance(config, dict) else None
    kinds = {model.__name__: kind for kind, model in MODELS.items()}
    known = isinstance(name, str) and name in kinds
    if not known or not isinstance(config.get("config"), dict):
        raise ValueError(
            f"A configuration must be of one of {sorted(kinds)}. Received: {name!r}"
        )
    return kinds[name], complete(kinds[name], architecture(config["config"]))
