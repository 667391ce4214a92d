"""Training with plain `compile` and `fit`, and whole runs from recipes."""

from keras_makeavid.training.distillation import ConsistencyDistillation
from keras_makeavid.training.distribution import ProcessLost, make_distribution
from keras_makeavid.training.image_objectives import ImageAutoencoding, ImageDiffusion
from keras_makeavid.training.logs import read_metrics
from keras_makeavid.training.optimizer import AdamW, WarmupSchedule
from keras_makeavid.training.phases import rematerialise_blocks
from keras_makeavid.training.run import TrainingFailed, TrainingResult, train
from keras_makeavid.training.trainable import (
    add_lora,
    save_lora,
    set_trainable,
    without_lora,
)
from keras_makeavid.training.video_diffusion import VideoDiffusion

__all__ = [
    "AdamW",
    "ConsistencyDistillation",
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
    "save_lora",
    "set_trainable",
    "train",
    "without_lora",
]
