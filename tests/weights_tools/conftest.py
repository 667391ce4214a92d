"""A small Stable Diffusion pipeline, made and saved by the real libraries."""

import keras
import numpy as np
import pytest
import torch

import weights_tools
from keras_makeavid.text import openai_clip_vocabulary
from keras_makeavid.text.vocabulary import Vocabulary

if keras.config.backend() == "torch":
    # Threads cost tiny tensors more than they bring, 20 times so on a busy machine.
    torch.set_num_threads(1)


def randomise(model):
    """Draw norms and biases too, which start alike."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="session")
def image_unet():
    """Diffusers' inpainting UNet in small, as SD 1.x has it."""
    return make_image_unet(9)


def make_image_unet(in_channels):
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return randomise(
        UNet2DConditionModel(
            in_channels=in_channels,
            cross_attention_dim=64,
            block_out_channels=(32, 32, 64, 64),
            attention_head_dim=8,
            sample_size=8,
        )
    )


@pytest.fixture(scope="session")
def vae():
    from diffusers import AutoencoderKL

    torch.manual_seed(1)
    return randomise(
        AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[32, 32, 32, 32],
            layers_per_block=2,
        )
    )


@pytest.fixture(scope="session")
def text_encoder():
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(2)
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        # Of 64 channels, as every CLIP's.
        num_attention_heads=1,
    )
    return randomise(CLIPTextModel(config))


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory, image_unet, vae, text_encoder):
    """The folder of that pipeline."""
    from diffusers import PNDMScheduler

    folder = tmp_path_factory.mktemp("pipelines") / "inpainting"
    image_unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text_encoder.save_pretrained(folder / "text_encoder")
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ).save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir()
    Vocabulary(*openai_clip_vocabulary()).save(folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def inflated(pipeline, tmp_path_factory):
    """The preset that the pipeline's inflation is: to read, not to write."""
    folder = tmp_path_factory.mktemp("inflated") / "preset"
    weights_tools.inflate(pipeline, folder)
    return folder


@pytest.fixture(scope="session")
def video_unet():
    """A video UNet of ours whose temporal parts do something."""
    from keras_makeavid.models import UNetPseudo3D

    keras.utils.set_random_seed(0)
    unet = UNetPseudo3D(
        block_channels=(32, 64),
        attention_levels=(True, False),
        layers_per_block=1,
        num_heads=2,
        context_dim=16,
    )
    random = np.random.default_rng(0)
    for weight in unet.weights:
        value = keras.ops.convert_to_numpy(weight)
        weight.assign(value + 0.1 * random.standard_normal(value.shape, "float32"))
    return unet
