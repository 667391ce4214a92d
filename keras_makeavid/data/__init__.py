"""Latent datasets: made from clips, converted, checked and read for training.

`keras_makeavid.data.motions` is a world of clips of its own, drawn from a seed.

Its parts are imported when they are first used: processes that only read clips or
windows need no Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_MODULES = {
    "ClipFilter": "clip_reading",
    "EncodeReport": "encode",
    "LatentClip": "reader",
    "LatentDataset": "latent_dataset",
    "LatentLoader": "latent_loader",
    "LatentReader": "reader",
    "MotionClips": "motions",
    "PictureFolder": "picture_loader",
    "PictureLoader": "picture_loader",
    "PublishedDataset": "published",
    "RayWorkers": "clip_encoder",
    "ShardedDataset": "sharded",
    "check_dataset": "datasets",
    "convert_dataset": "datasets",
    "dataset_facts": "datasets",
    "encode_clips": "encode",
    "encode_motions": "motion_encoding",
    "open_dataset": "datasets",
    "open_writer": "datasets",
    "read_captions": "captions",
}

__all__ = [
    "ClipFilter",
    "EncodeReport",
    "LatentClip",
    "LatentDataset",
    "LatentLoader",
    "LatentReader",
    "MotionClips",
    "PictureFolder",
    "PictureLoader",
    "PublishedDataset",
    "RayWorkers",
    "ShardedDataset",
    "check_dataset",
    "convert_dataset",
    "dataset_facts",
    "encode_clips",
    "encode_motions",
    "open_dataset",
    "open_writer",
    "read_captions",
]

if TYPE_CHECKING:
    from keras_makeavid.data.captions import read_captions
    from keras_makeavid.data.clip_encoder import RayWorkers
    from keras_makeavid.data.clip_reading import ClipFilter
    from keras_makeavid.data.datasets import (
        check_dataset,
        convert_dataset,
        dataset_facts,
        open_dataset,
        open_writer,
    )
    from keras_makeavid.data.encode import EncodeReport, encode_clips
    from keras_makeavid.data.latent_dataset import LatentDataset
    from keras_makeavid.data.latent_loader import LatentLoader
    from keras_makeavid.data.motion_encoding import encode_motions
    from keras_makeavid.data.motions import MotionClips
    from keras_makeavid.data.picture_loader import PictureFolder, PictureLoader
    from keras_makeavid.data.published import PublishedDataset
    from keras_makeavid.data.reader import LatentClip, LatentReader
    from keras_makeavid.data.sharded import ShardedDataset


def __getattr__(name: str):
    if name in _MODULES:
        module = importlib.import_module(f"keras_makeavid.data.{_MODULES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'keras_makeavid.data' has no attribute {name!r}")


def __dir__():
    return __all__
