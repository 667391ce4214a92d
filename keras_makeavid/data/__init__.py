"""Latent datasets: made from clips, converted, checked and read for training.

Its parts are imported when they are first used: processes that only read clips or
windows need no Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_MODULES = {
    "ClipFilter": "clip_filter",
    "EncodeReport": "encode_report",
    "LatentClip": "reader",
    "LatentDataset": "latent_dataset",
    "LatentLoader": "latent_loader",
    "LatentReader": "reader",
    "PictureLoader": "picture_loader",
    "PublishedDataset": "published_dataset",
    "RayWorkers": "ray_encoding",
    "ShardedDataset": "sharded_dataset",
    "check_dataset": "check",
    "convert_dataset": "convert",
    "dataset_facts": "facts",
    "encode_clips": "encode",
    "open_dataset": "reader",
    "open_writer": "writer",
    "read_captions": "captions",
}

__all__ = [
    "ClipFilter",
    "EncodeReport",
    "LatentClip",
    "LatentDataset",
    "LatentLoader",
    "LatentReader",
    "PictureLoader",
    "PublishedDataset",
    "RayWorkers",
    "ShardedDataset",
    "check_dataset",
    "convert_dataset",
    "dataset_facts",
    "encode_clips",
    "open_dataset",
    "open_writer",
    "read_captions",
]

if TYPE_CHECKING:
    from keras_makeavid.data.captions import read_captions
    from keras_makeavid.data.check import check_dataset
    from keras_makeavid.data.clip_filter import ClipFilter
    from keras_makeavid.data.convert import convert_dataset
    from keras_makeavid.data.encode import encode_clips
    from keras_makeavid.data.encode_report import EncodeReport
    from keras_makeavid.data.facts import dataset_facts
    from keras_makeavid.data.latent_dataset import LatentDataset
    from keras_makeavid.data.latent_loader import LatentLoader
    from keras_makeavid.data.picture_loader import PictureLoader
    from keras_makeavid.data.published_dataset import PublishedDataset
    from keras_makeavid.data.ray_encoding import RayWorkers
    from keras_makeavid.data.reader import LatentClip, LatentReader, open_dataset
    from keras_makeavid.data.sharded_dataset import ShardedDataset
    from keras_makeavid.data.writer import open_writer


def __getattr__(name: str):
    if name in _MODULES:
        module = importlib.import_module(f"keras_makeavid.data.{_MODULES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'keras_makeavid.data' has no attribute {name!r}")


def __dir__():
    return __all__
