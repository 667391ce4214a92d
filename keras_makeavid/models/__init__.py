"""Models: the inflated UNet and what stands around it."""

from keras_makeavid.models.autoencoder_kl import AutoencoderKL
from keras_makeavid.models.unet_pseudo3d import UNetPseudo3D

__all__ = ["AutoencoderKL", "UNetPseudo3D"]
