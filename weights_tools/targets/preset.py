"""A KerasHub preset folder of ours, written without making the models."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from pathlib import Path

import keras
import keras_hub

from keras_makeavid import TextToVideo
from keras_makeavid.models.loading import without_weights
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.text import TextToVideoPreprocessor, openai_clip_vocabulary
from weights_tools.component import Component
from weights_tools.copying import bytes_to_write, write_file
from weights_tools.kinds import MODELS, weightless_model
from weights_tools.layouts import Layout, get_layout
from weights_tools.source import Source
from weights_tools.sources.preset import TASK, TASK_PARTS, TASK_WEIGHTS, WEIGHTS
from weights_tools.targets.checks import check_holds


class PresetWriter:
    """Writes a source as a preset: a whole task if it has all of one.

    Args:
        source: the models; a task needs UNet, VAE and text encoder.
        dtype: dtype of the weights; `None` keeps each tensor's.

    Raises:
        ValueError: if the parts make neither a task nor one model.
    """

    def __init__(self, source: Source, dtype: str | None):
        self._source = source
        self._dtype = dtype
        self._is_task = MODELS.keys() <= source.components.keys()
        if not self._is_task and len(source.components) != 1:
            raise ValueError(
                f"A preset holds one model, or {sorted(MODELS)} for a task. "
                f"Received: {sorted(source.components)}"
            )
        for component in source.components.values():
            check_holds(component, get_layout(component.kind, "keras"))
        part = "unet" if self._is_task else next(iter(source.components))
        self._backbone = source.components[part]
        if self._is_task:
            self._preprocessor = source.preprocessor or _clip_preprocessor(source)
            _check_length(self._preprocessor, source.components["text_encoder"])
        self.total_bytes = bytes_to_write(
            self._backbone_parts() + self._task_parts(), dtype
        )

    @property
    def layouts(self) -> dict[str, Layout]:
        """The layout of each part."""
        return {
            part: get_layout(component.kind, "keras")
            for part, component in self._source.components.items()
        }

    def write(self, folder: Path, on_bytes: Callable[[int], object]) -> None:
        """Write everything into a folder.

        Args:
            folder: an empty folder.
            on_bytes: called with the number of bytes written since the last call.
        """
        if self._is_task:
            task = without_weights(self._make_task)
            _write_json(folder / TASK, _serialized(task))
            write_file(folder / TASK_WEIGHTS, self._task_parts(), self._dtype, on_bytes)
            self._preprocessor.save_to_preset(str(folder))
            model = task.backbone
        else:
            model = _weightless(self._backbone)
        _write_json(folder / "config.json", _serialized(model))
        _write_json(folder / "metadata.json", self._metadata())
        write_file(folder / WEIGHTS, self._backbone_parts(), self._dtype, on_bytes)

    def _backbone_parts(self):
        layout = get_layout(self._backbone.kind, "keras")
        return [(self._backbone, layout, None)]

    def _task_parts(self):
        parts = []
        for place, part in TASK_PARTS.items() if self._is_task else ():
            component = self._source.components.get(part)
            if component is not None:
                layout = get_layout(component.kind, "keras")
                parts.append((component, layout, f"{place}/{layout.roots[0]}"))
        return parts

    def _make_task(self):
        parts = self._source.components
        models = {part: _weightless(parts[part]) for part in MODELS}
        image_unet = parts.get("image_unet")
        if image_unet is not None:
            # Not one from the cache, which may be the UNet itself.
            image_unet = MODELS["unet"](**image_unet.arguments)
        return TextToVideo(
            models["unet"],
            self._preprocessor,
            models["text_encoder"],
            models["vae"],
            image_unet,
            self._source.schedule or NoiseSchedule(),
            **self._source.defaults,
        )

    def _metadata(self):
        shapes = self._backbone.shapes.values()
        return {
            "keras_version": keras.version(),
            "keras_hub_version": keras_hub.version(),
            "parameter_count": sum(math.prod(shape) for shape in shapes),
            "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
            "tasks": ["TextToVideo"] if self._backbone.kind == "unet" else [],
        }


def _weightless(component: Component) -> keras.Model:
    return weightless_model(component.kind, component.arguments)


def _check_length(preprocessor, text_encoder):
    most = text_encoder.arguments["max_sequence_length"]
    if preprocessor.sequence_length > most:
        raise ValueError(
            f"The text encoder takes at most {most} tokens. Received: a tokenizer of "
            f"model_max_length {preprocessor.sequence_length}"
        )


def _clip_preprocessor(source):
    size = source.components["text_encoder"].arguments["vocabulary_size"]
    tokens, merges = openai_clip_vocabulary()
    if size != len(tokens):
        raise ValueError(
            f"The source has no tokenizer, and its text encoder of {size} tokens is "
            f"not for CLIP's own, which has {len(tokens)}: name the folder of one"
        )
    return TextToVideoPreprocessor(tokens, merges)


def _serialized(layer):
    config = keras.saving.serialize_keras_object(layer)
    _pop(config, ("compile_config", "build_config"))
    return config


def _pop(config, keys):
    for key in keys:
        config.pop(key, None)
    for value in config.values():
        if isinstance(value, dict):
            _pop(value, keys)


def _write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=4), encoding="utf-8")
