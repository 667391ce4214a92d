"""What the models of one text-to-video task must have in common."""

import keras

from keras_makeavid.given_frames import REPEATED
from keras_makeavid.models.autoencoders import AutoencoderKL
from keras_makeavid.models.unet_pseudo3d import UNetPseudo3D

# Sizes of videos are multiples of it. Models that need more compute a larger picture.
SIZE_STEP = 32
# Defaults of `generate` and `TextToVideo`, where neither caller nor checkpoint has one.
TASK_DEFAULTS = {
    **{"height": 512, "width": 512, "num_frames": 24},
    **{"guidance_scale": 15.0, "fps": 8.0, "given_frames": REPEATED},
    **{"num_steps": 20, "scheduler": "dpm++2m", "origin": {}},
}
# Those of a model that was distilled, which has its teacher's guidance in the weights.
FEW_STEPS = {"num_steps": 4, "scheduler": "lcm", "guidance_scale": 1.0}


def check_parts(
    backbone: UNetPseudo3D,
    text_encoder: keras.Model,
    vae: AutoencoderKL,
    image_backbone: UNetPseudo3D | None = None,
) -> None:
    """Refuse models that do not go together, as channels of one are not another's."""
    width = text_encoder.output.shape[-1]
    for unet in (backbone, image_backbone):
        if unet is not None and unet.context_dim != width:
            raise ValueError(
                f"The text encoder's states have {width} channels. "
                f"Received: a UNet with context_dim={unet.context_dim}"
            )
    if image_backbone is backbone:
        # Files hold a model once, and would miss it in one of both places.
        raise ValueError("image_backbone must be another model than backbone, or None")
    channels = vae.latent_channels
    takes = [channels, 2 * channels + 1]
    _check_channels("backbone", backbone, takes, channels)
    if image_backbone is not None:
        _check_channels("image_backbone", image_backbone, takes, channels)


def _check_channels(name, unet, takes, latent_channels):
    if unet.in_channels not in takes or unet.out_channels != latent_channels:
        raise ValueError(
            f"For a VAE of {latent_channels} latent channels the {name} must take "
            f"{' or '.join(map(str, takes))} channels and return {latent_channels}. "
            f"Received: in_channels={unet.in_channels}, "
            f"out_channels={unet.out_channels}"
        )
