"""Latent datasets in the published layout: write and read them."""

from keras_makeavid.data.captions import read_captions
from keras_makeavid.data.encode import EncodeReport, encode_clips
from keras_makeavid.data.latent_dataset import LatentDataset
from keras_makeavid.data.latent_loader import LatentLoader
from keras_makeavid.data.latent_windows import LatentWindows

__all__ = [
    "EncodeReport",
    "LatentDataset",
    "LatentLoader",
    "LatentWindows",
    "encode_clips",
    "read_captions",
]
