"""Layouts of the image autoencoder."""

from __future__ import annotations

from dataclasses import replace

from weights_tools.layouts.layout import (
    CONVOLVED_ATTENTION,
    KERAS_LEAVES,
    TORCH_AXES,
    TORCH_LEAVES,
    Layout,
    keras_list,
)

# The attention's projections have another name in each layout: they tell it.
_MARKER = "encoder/mid_block/attention/to_q/kernel"

_DIFFUSERS_RENAMES = (
    (r"mid_block/attention/", "mid_block/attentions_0/"),
    (r"downsamplers_0/", "downsamplers_0/conv/"),
    (r"(down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers)_", r"\1."),
)

DIFFUSERS = Layout(
    name="diffusers",
    kind="vae",
    container="safetensors",
    renames=(*_DIFFUSERS_RENAMES, (r"to_out/", "to_out.0/"), *TORCH_LEAVES),
    axes=TORCH_AXES,
    marker=_MARKER,
)

# Files from before diffusers 0.15, such as Stable Diffusion 1.5's own.
DIFFUSERS_OLD = replace(
    DIFFUSERS,
    name="diffusers_old",
    renames=(
        *_DIFFUSERS_RENAMES,
        (r"to_q/", "query/"),
        (r"to_k/", "key/"),
        (r"to_v/", "value/"),
        (r"to_out/", "proj_attn/"),
        *TORCH_LEAVES,
    ),
)

LDM = Layout(
    name="ldm",
    kind="vae",
    container="safetensors",
    renames=(
        (r"conv_shortcut/", "nin_shortcut/"),
        (r"mid_block/resnets_0/", "mid/block_1/"),
        (r"mid_block/resnets_1/", "mid/block_2/"),
        (r"mid_block/attention/", "mid/attn_1/"),
        (r"group_norm/", "norm/"),
        (r"to_([qkv])/", r"\1/"),
        (r"to_out/", "proj_out/"),
        (r"down_blocks_(\d+)/", r"down/\1/"),
        # On the way up LDM counts the four levels from the finest.
        *((rf"up_blocks_{level}/", f"up/{3 - level}/") for level in range(4)),
        (r"resnets_(\d+)/", r"block/\1/"),
        (r"downsamplers_0/", "downsample/conv/"),
        (r"upsamplers_0/", "upsample/"),
        (r"conv_norm_out/", "norm_out/"),
        *TORCH_LEAVES,
    ),
    axes=TORCH_AXES,
    groups=CONVOLVED_ATTENTION,
    roots=("first_stage_model.", ""),
    marker=_MARKER,
    # The loss that the autoencoder was trained with may lie beside it.
    ignored=r"^(first_stage_model\.)?(loss|model_ema)\.",
)

KERAS = Layout(
    name="keras",
    kind="vae",
    container="hdf5",
    renames=(
        *keras_list("down_blocks", "down_blocks", "image_block"),
        *keras_list("up_blocks", "up_blocks", "image_block"),
        *keras_list("resnets", "resnets", "image_residual_block"),
        (r"(down|up)samplers_0/", "sampler/"),
        *KERAS_LEAVES,
    ),
    roots=("layers/autoencoder/", "vae/layers/autoencoder/"),
    marker=_MARKER,
)

VAE_LAYOUTS = (KERAS, DIFFUSERS, DIFFUSERS_OLD, LDM)
