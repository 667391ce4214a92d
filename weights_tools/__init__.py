"""Bring published weights into the models of `keras_makeavid`, and back out.

The road of a checkpoint: `opening` gives a `Checkpoint`, `conversion` makes a video
model of an image model, and `saving` writes it in any layout.
"""

from weights_tools.configs import (
    autoencoder_from_diffusers_config,
    text_encoder_from_transformers_config,
    unet_from_diffusers_config,
)
from weights_tools.conversion import ConversionReport, convert, inflate
from weights_tools.loading import load_model, load_weights
from weights_tools.lora import LORA_FORMS, convert_lora
from weights_tools.opening import open_source
from weights_tools.verification import (
    Inspection,
    PartComparison,
    PartInspection,
    inspect,
    verify,
)

__all__ = [
    "LORA_FORMS",
    "ConversionReport",
    "Inspection",
    "PartComparison",
    "PartInspection",
    "autoencoder_from_diffusers_config",
    "convert",
    "convert_lora",
    "inflate",
    "inspect",
    "load_model",
    "load_weights",
    "open_source",
    "text_encoder_from_transformers_config",
    "unet_from_diffusers_config",
    "verify",
]
