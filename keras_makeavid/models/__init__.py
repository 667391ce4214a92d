"""Models: the inflated UNet and what stands around it."""

from keras_hub.src.utils.preset_utils import register_presets

from keras_makeavid.models.autoencoders import AutoencoderKL, AutoencoderTiny
from keras_makeavid.models.frame_coding import FrameCoding
from keras_makeavid.models.unet_pseudo3d import UNetPseudo3D
from keras_makeavid.presets import PRESETS

# As KerasHub registers the presets of its own models.
register_presets(PRESETS, UNetPseudo3D)

__all__ = ["AutoencoderKL", "AutoencoderTiny", "FrameCoding", "UNetPseudo3D"]
