"""Bring published weights into the models of `keras_makeavid`, and back out."""

from weights_tools.autoencoder_config import autoencoder_from_diffusers_config
from weights_tools.config import unet_from_diffusers_config
from weights_tools.conversion import ConversionReport, convert, inflate
from weights_tools.inspection import PartInspection, inspect
from weights_tools.loading import load_weights
from weights_tools.models import load_model
from weights_tools.opening import open_source
from weights_tools.targets.kerascv import load_into_kerascv
from weights_tools.text_encoder_config import text_encoder_from_transformers_config
from weights_tools.verification import PartComparison, verify

__all__ = [
    "ConversionReport",
    "PartComparison",
    "PartInspection",
    "autoencoder_from_diffusers_config",
    "convert",
    "inflate",
    "inspect",
    "load_into_kerascv",
    "load_model",
    "load_weights",
    "open_source",
    "text_encoder_from_transformers_config",
    "unet_from_diffusers_config",
    "verify",
]
