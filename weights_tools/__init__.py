"""Bring published weights into the models of `keras_makeavid`, and back out."""

from weights_tools.autoencoder_config import autoencoder_from_diffusers_config
from weights_tools.config import unet_from_diffusers_config
from weights_tools.loading import load_weights

__all__ = [
    "autoencoder_from_diffusers_config",
    "load_weights",
    "unet_from_diffusers_config",
]
