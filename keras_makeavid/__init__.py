"""Text-to-video with Stable Diffusion in Keras 3, on JAX, PyTorch and TensorFlow.

Parts are imported when they are first used; `import keras_makeavid.models` registers
every class with Keras, for presets and `.keras` files that Keras or KerasHub loads.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "TextToVideo",
    "__version__",
    "data",
    "dtype_policies",
    "exporting",
    "layers",
    "models",
    "moving_shapes",
    "planning",
    "publishing",
    "recipes",
    "schedulers",
    "tasks",
    "text",
    "training",
    "video",
]

if TYPE_CHECKING:
    from keras_makeavid import (
        data,
        dtype_policies,
        exporting,
        layers,
        models,
        moving_shapes,
        planning,
        publishing,
        recipes,
        schedulers,
        tasks,
        text,
        training,
        video,
    )
    from keras_makeavid.tasks import TextToVideo


def __getattr__(name: str):
    if name == "TextToVideo":
        from keras_makeavid.tasks import TextToVideo

        return TextToVideo
    if name in __all__:
        return importlib.import_module(f"keras_makeavid.{name}")
    raise AttributeError(f"module 'keras_makeavid' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
