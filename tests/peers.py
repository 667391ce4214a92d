"""Forward passes of diffusers' models and of ours, on the same arrays."""

import numpy as np
import torch
from running import runner


def image_output(peer, inputs):
    """What diffusers' UNet makes of channels-last images, channels-last."""
    with torch.no_grad():
        output = peer(
            torch.from_numpy(np.moveaxis(inputs["sample"], -1, 1).copy()),
            torch.from_numpy(inputs["timesteps"]),
            torch.from_numpy(inputs["context"]),
        ).sample
    return np.moveaxis(output.numpy(), 1, -1)


def our_output(unet, inputs):
    """What our UNet makes of them."""
    return runner(unet)(inputs)
