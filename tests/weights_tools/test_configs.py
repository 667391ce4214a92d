import json

import goldens
import pytest
from diffusers import UNet2DConditionModel
from holes import write_hole

import weights_tools
from keras_makeavid.models import UNetPseudo3D
from weights_tools import unet_from_diffusers_config
from weights_tools.architectures import complete, shapes_of
from weights_tools.configs import our_arguments
from weights_tools.layouts import get_layout

DEFAULTS = {
    "in_channels": 9,
    "out_channels": 4,
    "block_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "num_heads": 8,
    "context_dim": 768,
    "attention_levels": (True, True, True, False),
}

# unet/config.json of stable-diffusion-v1-5/stable-diffusion-inpainting.
SD15_INPAINTING = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0.dev0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": [
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "DownBlock2D",
    ],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 9,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": [
        "UpBlock2D",
        "CrossAttnUpBlock2D",
        "CrossAttnUpBlock2D",
        "CrossAttnUpBlock2D",
    ],
}


def test_stable_diffusion_inpainting_is_the_default_with_its_gelu_and_epsilon():
    arguments = our_arguments("unet", SD15_INPAINTING)
    assert arguments == {
        **DEFAULTS,
        "groups": 32,
        "epsilon": 1e-5,
        "gelu": "exact",
        "transformer_epsilon": 1e-6,
    }


def test_any_other_class_means_the_pseudo_3d_defaults():
    unet = unet_from_diffusers_config(goldens.unet_case("unet_image").config)
    config = unet.get_config()
    assert (config["gelu"], config["transformer_epsilon"]) == ("tanh", 1e-5)
    assert config["block_channels"] == (32, 64)
    assert config["attention_levels"] == (True, False)
    assert config["num_heads"] == 4


def test_the_live_config_of_diffusers_is_understood():
    peer = UNet2DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=24,
    )
    arguments = our_arguments(
        "unet", {"_class_name": type(peer).__name__, **peer.config}
    )
    assert arguments["in_channels"] == 4
    assert arguments["num_heads"] == 4
    assert arguments["gelu"] == "exact"
    assert our_arguments("unet", dict(peer.config))["context_dim"] == 24


def test_own_keys_override():
    arguments = our_arguments(
        "unet", {**SD15_INPAINTING, "gelu": "tanh", "num_heads": [4, 8]}
    )
    assert arguments["gelu"] == "tanh"
    assert arguments["num_heads"] == (4, 8)


def test_an_empty_config_is_the_default_model():
    assert our_arguments("unet", {}) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"banana": 1}, "banana"),
        ({"use_linear_projection": True}, "use_linear_projection.*Received: True"),
        ({"act_fn": "mish"}, "act_fn.*Received: 'mish'"),
        ({"down_block_types": ["AttnDownBlock2D"]}, "AttnDownBlock2D"),
        ({"up_block_types": ["UpBlock2D"] * 4}, "mirror"),
        ({"gelu": "sigmoid"}, "gelu.*'sigmoid'"),
    ],
)
def test_another_architecture_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        unet_from_diffusers_config({**SD15_INPAINTING, **change})


def test_the_default_model_is_the_full_size_one():
    defaults = UNetPseudo3D.__init__.__defaults__
    assert defaults[:7] == tuple(DEFAULTS.values())


# unet/config.json of TempoFunk/makeavid-sd-jax: what Flax registers of the original.
MAKEAVID_JAX = {
    "_class_name": "UNetPseudo3DConditionModel",
    "_diffusers_version": "0.12.1",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlockPseudo3D"] * 3 + ["DownBlockPseudo3D"],
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 9,
    "layers_per_block": 2,
    "out_channels": 4,
    "param_dtype": "float32",
    "sample_size": [64, 64],
    "up_block_types": ["UpBlockPseudo3D"] + ["CrossAttnUpBlockPseudo3D"] * 3,
    "use_memory_efficient_attention": False,
}

# lxj616's keeps the names of the image model's blocks.
TIMELAPSE = {
    **SD15_INPAINTING,
    "_class_name": "UNetPseudo3DConditionModel",
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "only_cross_attention": False,
    "upcast_attention": False,
}


@pytest.mark.parametrize("config", [MAKEAVID_JAX, TIMELAPSE])
@pytest.mark.parametrize(
    "of_flax", [{}, {"dtype": "bfloat16", "name": None, "param_dtype": "bfloat16"}]
)
def test_the_published_video_models_are_the_default(config, of_flax, tmp_path):
    """Converted as a source: the dtype and the name are the new model's own affair."""
    layout = get_layout("unet", "makeavid_torch")
    shapes = {
        layout.tensor_name(variable): layout.shape(variable, shape)
        for variable, shape in shapes_of("unet", {}).items()
    }
    write_hole(tmp_path / "full.safetensors", shapes)
    (tmp_path / "config.json").write_text(json.dumps(config | of_flax))
    found = weights_tools.inspect(tmp_path / "full.safetensors")["unet"]
    assert found.config == complete("unet", {})


def test_what_is_null_in_a_config_is_not_there():
    assert our_arguments("unet", {**SD15_INPAINTING, "new_part": None})
    with pytest.raises(ValueError, match="encoder_hid_dim is unknown"):
        our_arguments("unet", {**SD15_INPAINTING, "encoder_hid_dim": 768})
