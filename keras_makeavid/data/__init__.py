"""Latent datasets: made from clips, converted, checked and read for training.

Keras is imported when it is first needed: processes that only read do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_makeavid.data.captions import read_captions
from keras_makeavid.data.clip_reading import ClipFilter
from keras_makeavid.data.datasets import (
    check_dataset,
    convert_dataset,
    dataset_facts,
    open_dataset,
)
from keras_makeavid.data.encode import EncodeReport, encode_clips
from keras_makeavid.data.loaders import LatentLoader, PictureFolder, PictureLoader
from keras_makeavid.data.published import PublishedReader
from keras_makeavid.data.reader import LatentClip, LatentReader
from keras_makeavid.data.sharded import ShardedReader, ShardedWriter
from keras_makeavid.ray_workers import RayWorkers

if TYPE_CHECKING:
    from keras_makeavid.data.latent_dataset import LatentDataset

__all__ = [
    "ClipFilter",
    "EncodeReport",
    "LatentClip",
    "LatentDataset",
    "LatentLoader",
    "LatentReader",
    "PictureFolder",
    "PictureLoader",
    "PublishedReader",
    "RayWorkers",
    "ShardedReader",
    "ShardedWriter",
    "check_dataset",
    "convert_dataset",
    "dataset_facts",
    "encode_clips",
    "open_dataset",
    "read_captions",
]


def __getattr__(name: str):
    if name == "LatentDataset":
        from keras_makeavid.data.latent_dataset import LatentDataset

        return LatentDataset
    raise AttributeError(f"module 'keras_makeavid.data' has no attribute {name!r}")
