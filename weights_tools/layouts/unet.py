"""Layouts of the UNet: image models and inflated ones."""

from __future__ import annotations

from dataclasses import replace

from weights_tools.layouts.layout import (
    KERAS_LEAVES,
    TORCH_AXES,
    TORCH_LEAVES,
    Layout,
    keras_list,
)

# What a file of Stable Diffusion 1.x does not tell, and a `config.json` does.
_UNTOLD = {"num_heads": 8, "groups": 32, "epsilon": 1e-5}

# Stable Diffusion's image models; the inflated ones have the model's own defaults.
_IMAGE_MODEL = {"gelu": "exact", "transformer_epsilon": 1e-6}

_DIFFUSERS_RENAMES = (
    (r"(down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers)_", r"\1."),
    (r"transformer_block/", "transformer_blocks.0/"),
    (r"to_out/", "to_out.0/"),
    (r"ff/proj_in/", "ff/net.0.proj/"),
    (r"ff/proj_out/", "ff/net.2/"),
)

MAKEAVID_TORCH = Layout(
    name="makeavid_torch",
    kind="unet",
    container="safetensors",
    renames=(*_DIFFUSERS_RENAMES, *TORCH_LEAVES),
    axes=TORCH_AXES,
    marker="conv_in/temporal_conv/kernel",
    assumed={"gelu": "exact", "transformer_epsilon": 1e-5},
)

MAKEAVID_FLAX = Layout(
    name="makeavid_flax",
    kind="unet",
    container="flax_msgpack",
    renames=(
        (r"transformer_block/", "transformer_blocks_0/"),
        (r"to_out/", "to_out_0/"),
        (r"ff/proj_in/", "ff/net_0/proj/"),
        (r"ff/proj_out/", "ff/net_2/"),
        (r"gamma$", "scale"),
        (r"beta$", "bias"),
    ),
    marker="conv_in/temporal_conv/kernel",
    assumed={"gelu": "tanh", "transformer_epsilon": 1e-5, **_UNTOLD},
)

DIFFUSERS = Layout(
    name="diffusers",
    kind="unet",
    container="safetensors",
    renames=((r"spatial_conv/", ""), *_DIFFUSERS_RENAMES, *TORCH_LEAVES),
    axes=TORCH_AXES,
    marker="conv_in/spatial_conv/kernel",
    absent=r"temporal",
    defaults=_IMAGE_MODEL,
)

# Stable Diffusion 1.x has two layers a block. LDM numbers what is on the way down
# and on the way up in one row each, three places a level.
_LDM_BLOCKS = tuple(
    pair
    for level in range(8)
    for pair in (
        *(
            (
                rf"down_blocks_{level}/{ours}_{i}/",
                f"input_blocks/{3 * level + i + 1}/{j}/",
            )
            for j, ours in enumerate(("resnets", "attentions"))
            for i in range(2)
        ),
        (
            rf"down_blocks_{level}/downsamplers_0/conv/",
            f"input_blocks/{3 * level + 3}/0/op/",
        ),
        *(
            (rf"up_blocks_{level}/{ours}_{i}/", f"output_blocks/{3 * level + i}/{j}/")
            for j, ours in enumerate(("resnets", "attentions"))
            for i in range(3)
        ),
        # The deepest level has no transformer, whose place the upsampler takes.
        (
            rf"up_blocks_{level}/upsamplers_0/",
            f"output_blocks/{3 * level + 2}/{2 if level else 1}/",
        ),
    )
)

LDM = Layout(
    name="ldm",
    kind="unet",
    container="safetensors",
    renames=(
        (r"spatial_conv/", ""),
        (r"(resnets_\d+)/norm1/", r"\1/in_layers/0/"),
        (r"(resnets_\d+)/conv1/", r"\1/in_layers/2/"),
        (r"time_emb_proj/", "emb_layers/1/"),
        (r"(resnets_\d+)/norm2/", r"\1/out_layers/0/"),
        (r"(resnets_\d+)/conv2/", r"\1/out_layers/3/"),
        (r"conv_shortcut/", "skip_connection/"),
        (r"transformer_block/", "transformer_blocks/0/"),
        (r"to_out/", "to_out/0/"),
        (r"ff/proj_in/", "ff/net/0/proj/"),
        (r"ff/proj_out/", "ff/net/2/"),
        *_LDM_BLOCKS,
        (r"^mid_block/resnets_0/", "middle_block/0/"),
        (r"^mid_block/attentions_0/", "middle_block/1/"),
        (r"^mid_block/resnets_1/", "middle_block/2/"),
        (r"^conv_in/", "input_blocks/0/0/"),
        (r"^time_embedding/linear_1/", "time_embed/0/"),
        (r"^time_embedding/linear_2/", "time_embed/2/"),
        (r"^conv_norm_out/", "out/0/"),
        (r"^conv_out/", "out/2/"),
        *TORCH_LEAVES,
    ),
    axes=TORCH_AXES,
    # Without its first parts it is the UNet alone.
    roots=("model.diffusion_model.", "diffusion_model.", ""),
    marker="conv_in/spatial_conv/kernel",
    absent=r"temporal",
    defaults=_IMAGE_MODEL,
    assumed=_UNTOLD,
)

# The running mean of the weights that LDM keeps beside them, in names without dots.
LDM_EMA = replace(
    LDM,
    name="ldm_ema",
    renames=(*LDM.renames, (r"\.", "")),
    roots=("model_ema.diffusion_model",),
)

KERAS = Layout(
    name="keras",
    kind="unet",
    container="hdf5",
    renames=(
        *keras_list("down_blocks", "down_blocks", "down_block"),
        *keras_list("up_blocks", "up_blocks", "up_block"),
        *keras_list("resnets", "resnets", "residual_block"),
        *keras_list("attentions", "attentions", "spatio_temporal_transformer"),
        (r"(down|up)samplers_0/", r"\1sampler/"),
        *KERAS_LEAVES,
    ),
    roots=("layers/u_net/", "image_backbone/layers/u_net/"),
    marker="conv_in/spatial_conv/kernel",
)

UNET_LAYOUTS = (KERAS, MAKEAVID_TORCH, MAKEAVID_FLAX, DIFFUSERS, LDM, LDM_EMA)
