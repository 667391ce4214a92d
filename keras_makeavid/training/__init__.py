"""Training by plain `compile` and `fit`, and whole runs by recipes.

Its parts are imported when they are first used: `TextToVideo.compile` needs no runs,
which need `TextToVideo`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_MODULES = {
    "AdamW": "optimizer",
    "ImageAutoencoding": "image_autoencoding",
    "ImageDiffusion": "image_diffusion",
    "ProcessLost": "hosts",
    "TrainingFailed": "run",
    "TrainingResult": "run",
    "VideoDiffusion": "video_diffusion",
    "WarmupSchedule": "schedule",
    "add_lora": "lora",
    "make_distribution": "distribution",
    "read_metrics": "logs",
    "rematerialise_blocks": "computation",
    "set_trainable": "trainable",
    "train": "run",
    "without_lora": "lora",
}

__all__ = [
    "AdamW",
    "ImageAutoencoding",
    "ImageDiffusion",
    "ProcessLost",
    "TrainingFailed",
    "TrainingResult",
    "VideoDiffusion",
    "WarmupSchedule",
    "add_lora",
    "make_distribution",
    "read_metrics",
    "rematerialise_blocks",
    "set_trainable",
    "train",
    "without_lora",
]

if TYPE_CHECKING:
    from keras_makeavid.training.computation import rematerialise_blocks
    from keras_makeavid.training.distribution import make_distribution
    from keras_makeavid.training.hosts import ProcessLost
    from keras_makeavid.training.image_autoencoding import ImageAutoencoding
    from keras_makeavid.training.image_diffusion import ImageDiffusion
    from keras_makeavid.training.logs import read_metrics
    from keras_makeavid.training.lora import add_lora, without_lora
    from keras_makeavid.training.optimizer import AdamW
    from keras_makeavid.training.run import TrainingFailed, TrainingResult, train
    from keras_makeavid.training.schedule import WarmupSchedule
    from keras_makeavid.training.trainable import set_trainable
    from keras_makeavid.training.video_diffusion import VideoDiffusion


def __getattr__(name: str):
    if name in _MODULES:
        module = importlib.import_module(f"keras_makeavid.training.{_MODULES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'keras_makeavid.training' has no attribute {name!r}")


def __dir__():
    return __all__
