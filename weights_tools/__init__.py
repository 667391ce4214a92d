"""Bring published weights into the models of `keras_makeavid`, and back out."""

from weights_tools.autoencoder_config import autoencoder_from_diffusers_config
from weights_tools.config import unet_from_diffusers_config
from weights_tools.conversion import ConversionReport, convert, inflate
from weights_tools.loading import load_weights
from weights_tools.models import load_model
from weights_tools.opening import open_source
from weights_tools.text_encoder_config import text_encoder_from_transformers_config

__all__ = [
    "ConversionReport",
    "autoencoder_from_diffusers_config",
    "convert",
    "inflate",
    "load_model",
    "load_weights",
    "open_source",
    "text_encoder_from_transformers_config",
    "unet_from_diffusers_config",
]
