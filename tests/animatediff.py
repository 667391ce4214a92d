"""Small models of AnimateDiff, as diffusers has them, and the original's names."""

import json
import re

import diffusers
import torch

import weights_tools
from keras_makeavid.text import openai_clip_vocabulary
from keras_makeavid.text.vocabulary import Vocabulary

# The versions as diffusers' classes are told of them.
VERSIONS = {
    "v1": {"use_motion_mid_block": False, "motion_max_seq_length": 24},
    "v2": {"use_motion_mid_block": True, "motion_max_seq_length": 32},
    "v3": {"use_motion_mid_block": False, "motion_max_seq_length": 32},
}
# diffusers' choice of both norms, whatever the version.
DIFFUSERS_NORMS = {"motion_norm_over_frames": True, "residual_norm_over_frames": False}

SMALL_BLOCKS = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
SMALL = {
    **SMALL_BLOCKS,
    "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
    "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
    "num_attention_heads": 2,
    "motion_num_attention_heads": 4,
    "cross_attention_dim": 24,
}
# With as many groups as files without a configuration must have.
FILES = {"block_out_channels": (32, 64), "layers_per_block": 1}


def randomise(model):
    """Make all weights matter, those that begin alike or at zero too."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "motion_modules" in name and name.endswith("proj_out.weight"):
                parameter.copy_(torch.randn_like(parameter) / len(parameter) ** 0.5)
    return model.eval()


def motion_unet(version, **config):
    """diffusers' UNet with motion modules; small, where nothing else is said."""
    torch.manual_seed(0)
    model = diffusers.UNetMotionModel(**VERSIONS[version], **(config or SMALL))
    return randomise(model)


def motion_adapter(version):
    """diffusers' motion modules alone, which fit the image UNet of `FILES`."""
    torch.manual_seed(1)
    return randomise(
        diffusers.MotionAdapter(
            block_out_channels=FILES["block_out_channels"],
            motion_layers_per_block=1,
            **VERSIONS[version],
        )
    )


def image_unet(in_channels=4, blocks=FILES):
    """An image UNet, as Stable Diffusion has it in large."""
    torch.manual_seed(2)
    return randomise(
        diffusers.UNet2DConditionModel(
            **blocks,
            in_channels=in_channels,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=2,
            cross_attention_dim=SMALL["cross_attention_dim"],
            sample_size=16,
        )
    )


def original_state(adapter):
    """The adapter's tensors under the names of AnimateDiff's own files."""
    state = {}
    for name, tensor in adapter.state_dict().items():
        name = re.sub(r"(motion_modules\.\d+\.)", r"\1temporal_transformer.", name)
        for i in (1, 2):
            name = name.replace(f".attn{i}.", f".attention_blocks.{i - 1}.")
            name = name.replace(f".norm{i}.", f".norms.{i - 1}.")
        name = name.replace(".norm3.", ".ff_norm.")
        if name.endswith("pos_embed.pe"):
            for i in (0, 1):
                place = f"attention_blocks.{i}.pos_encoder.pe"
                state[name.replace("pos_embed.pe", place)] = tensor.clone()
        else:
            state[name] = tensor
    return state


def twin(peer, **own):
    """Our model of a UNet of diffusers, by its config file, with its weights."""
    config = json.loads(peer.to_json_string())
    unet = weights_tools.unet_from_diffusers_config({**config, **own})
    weights_tools.load_weights(unet, peer.state_dict())
    return unet


def make_parts():
    """A small VAE and CLIP text encoder, for every UNet here."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(3)
    vae = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8] * 4,
        norm_num_groups=4,
        layers_per_block=1,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    return vae.eval(), text_encoder.eval()


def save_stable_diffusion(folder, in_channels=4):
    """The folder of a Stable Diffusion 1.x pipeline in small."""
    vae, text_encoder = make_parts()
    image_unet(in_channels).save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text_encoder.save_pretrained(folder / "text_encoder")
    diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ).save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir()
    Vocabulary(*openai_clip_vocabulary()).save(folder / "tokenizer")
    return folder
