"""Models in memory: ours, and KerasCV's."""

from __future__ import annotations

from pathlib import Path

import keras

from keras_makeavid import TextToVideo
from keras_makeavid.tasks.text_to_video import TASK_DEFAULTS
from weights_tools.component import Component
from weights_tools.configuration import architecture
from weights_tools.kinds import complete, kind_of
from weights_tools.source import Source
from weights_tools.sources import kerascv
from weights_tools.weights import weights_of_model


def open_model(model: keras.Model) -> Source:
    """See a live model, or all of a `TextToVideo`, as a source.

    Args:
        model: the model.

    Raises:
        ValueError: if it is none that we know.
    """
    if kerascv.is_kerascv_model(model):
        return kerascv.open_models([model])
    if not isinstance(model, TextToVideo):
        component = _component(model)
        return Source({component.kind: component})
    parts = {
        "unet": model.backbone,
        "vae": model.vae,
        "text_encoder": model.text_encoder,
        "image_unet": model.image_backbone,
    }
    return Source(
        {part: _component(m) for part, m in parts.items() if m is not None},
        model.preprocessor,
        model.schedule,
        {name: getattr(model, name) for name in TASK_DEFAULTS},
    )


def _component(model) -> Component:
    kind = kind_of(model)
    arguments = complete(kind, architecture(model.get_config()))
    weights = weights_of_model(model)
    return Component(kind, "keras", arguments, weights, Path(f"<{model.name}>"))
