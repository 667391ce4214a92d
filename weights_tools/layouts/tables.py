"""The layouts of every kind of model but those of KerasCV, which has its own module."""

import functools
import re
from dataclasses import replace
from typing import Any

from keras_makeavid.validation import check_choice
from weights_tools.layouts.layout import (
    CONVOLVED_ATTENTION,
    HEADS,
    KERAS_LEAVES,
    TORCH_AXES,
    TORCH_LEAVES,
    Layout,
    keras_list,
)

# What the layouts of PyTorch, and those of Keras, have in common.
_TORCH: dict[str, Any] = {"container": "safetensors", "axes": TORCH_AXES}
_KERAS: dict[str, Any] = {"name": "keras", "container": "hdf5"}

# The UNet: image models and inflated ones.

# Paths by which a UNet and motion modules are told.
_CONV_IN = "conv_in/spatial_conv/kernel"
_MODULE = "down_blocks_0/temporal_modules_0/norm/gamma"

_unet = functools.partial(Layout, kind="unet", marker=_CONV_IN)

# What a file of Stable Diffusion 1.x does not tell, and a `config.json` does.
_UNTOLD = {"num_heads": 8, "groups": 32, "epsilon": 1e-5}

# Stable Diffusion's image models; the inflated ones have the model's own defaults.
_IMAGE_MODEL = {"gelu": "exact", "transformer_epsilon": 1e-6}

# A slash is a dot in the end (`TORCH_LEAVES`).
_NUMBERED = (
    (r"(down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers)_", r"\1/"),
)
_TRANSFORMER = (
    (r"transformer_block/", "transformer_blocks/0/"),
    (r"to_out/", "to_out/0/"),
    (r"ff/proj_in/", "ff/net/0/proj/"),
    (r"ff/proj_out/", "ff/net/2/"),
)
# diffusers has one table of positions for both attentions, which are equal.
_MODULES = (
    (r"(temporal_modules_\d+)/(?!norm/|proj_)", r"\1/transformer_blocks/0/"),
    (r"temporal_modules_", "motion_modules/"),
    (r"positions\d/embeddings$", "pos_embed/pe"),
)
_UNET_RENAMES = (*_MODULES, *_NUMBERED, *_TRANSFORMER)

_UNET_DIFFUSERS = _unet(
    name="diffusers",
    **_TORCH,
    renames=((r"spatial_conv/", ""), *_UNET_RENAMES, *TORCH_LEAVES),
    without=_MODULE,
    absent=r"temporal",
    defaults=_IMAGE_MODEL,
)

# AnimateDiff: diffusers' UNetMotionModel and MotionAdapter, and the original's files.

_UNET_MOTION = replace(
    _UNET_DIFFUSERS,
    name="diffusers_motion",
    marker=_MODULE,
    beside=_CONV_IN,
    without=None,
    temporal="motion_modules",
    absent=None,
    groups=((r"positions\d/embeddings$", (0, 1, 1)),),
    # What diffusers computes, whatever the modules were trained with.
    assumed={"motion_norm_over_frames": True, "residual_norm_over_frames": False},
)
_ADAPTER = replace(
    _UNET_MOTION,
    name="diffusers_adapter",
    beside=None,
    without=_CONV_IN,
    absent=r"^(?!.*temporal)",
)
_ANIMATEDIFF = replace(
    _ADAPTER,
    name="animatediff",
    renames=(
        (r"positions(\d)/embeddings$", r"attn\1/pos_encoder/pe"),
        *((rf"/attn{i + 1}/", f"/attention_blocks/{i}/") for i in range(2)),
        *((rf"/norm{i + 1}/", f"/norms/{i}/") for i in range(2)),
        (r"/norm3/", "/ff_norm/"),
        *_MODULES[:1],
        (r"temporal_modules_(\d+)/", r"motion_modules/\1/temporal_transformer/"),
        *_NUMBERED,
        *_TRANSFORMER,
        *TORCH_LEAVES,
    ),
    # Some trainers wrap the model.
    roots=("", "module."),
    assumed={**_UNTOLD, "motion_num_heads": 8, "motion_norm_over_frames": False},
)


def _ldm_place(path: re.Match[str]) -> str:
    """Where LDM has a layer of a block.

    It numbers what is on the way down, and up, in one row each, three places a level.
    """
    way, level, kind, i = path[1], int(path[2]), path[3], int(path[4])
    if kind == "downsamplers":
        return f"input_blocks/{3 * level + 3}/0/"
    if kind == "upsamplers":
        # The deepest level has no transformer, whose place the upsampler takes.
        return f"output_blocks/{3 * level + 2}/{2 if level else 1}/"
    row, first, layers = ("input", 1, 2) if way == "down" else ("output", 0, 3)
    if i >= layers:
        return path[0]
    return f"{row}_blocks/{3 * level + first + i}/{int(kind == 'attentions')}/"


_UNET_LDM = _unet(
    name="ldm",
    **_TORCH,
    renames=(
        (r"spatial_conv/", ""),
        (r"(resnets_\d+)/norm1/", r"\1/in_layers/0/"),
        (r"(resnets_\d+)/conv1/", r"\1/in_layers/2/"),
        (r"time_emb_proj/", "emb_layers/1/"),
        (r"(resnets_\d+)/norm2/", r"\1/out_layers/0/"),
        (r"(resnets_\d+)/conv2/", r"\1/out_layers/3/"),
        (r"conv_shortcut/", "skip_connection/"),
        *_TRANSFORMER,
        (r"downsamplers_0/conv/", "downsamplers_0/op/"),
        (r"^(down|up)_blocks_(\d+)/(\w+)_(\d+)/", _ldm_place),
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
    # Without its first parts it is the UNet alone.
    roots=("model.diffusion_model.", "diffusion_model.", ""),
    absent=r"temporal",
    defaults=_IMAGE_MODEL,
    assumed=_UNTOLD,
)

_UNETS = (
    _unet(
        **_KERAS,
        renames=(
            *keras_list("down_blocks", "down_blocks", "down_block"),
            *keras_list("up_blocks", "up_blocks", "up_block"),
            *keras_list("resnets", "resnets", "residual_block"),
            *keras_list("attentions", "attentions", "spatio_temporal_transformer"),
            *keras_list("temporal_modules", "temporal_modules", "motion_module"),
            (r"(down|up)samplers_0/", r"\1sampler/"),
            *KERAS_LEAVES,
        ),
        roots=("layers/u_net/", "image_backbone/layers/u_net/"),
    ),
    _unet(
        name="makeavid_torch",
        **_TORCH,
        renames=(*_UNET_RENAMES, *TORCH_LEAVES),
        marker="conv_in/temporal_conv/kernel",
        temporal=True,
        assumed={"gelu": "exact", "transformer_epsilon": 1e-5},
    ),
    _unet(
        name="makeavid_flax",
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
        temporal=True,
        assumed={"gelu": "tanh", "transformer_epsilon": 1e-5, **_UNTOLD},
    ),
    _ANIMATEDIFF,
    _ADAPTER,
    _UNET_DIFFUSERS,
    _UNET_MOTION,
    _UNET_LDM,
    # The running mean of the weights that LDM keeps beside them, in names without dots.
    replace(
        _UNET_LDM,
        name="ldm_ema",
        renames=(*_UNET_LDM.renames, (r"\.", "")),
        roots=("model_ema.diffusion_model",),
    ),
)

# The image autoencoder, whose attention's projections have names that tell a layout.

_vae = functools.partial(
    Layout, kind="vae", marker="encoder/mid_block/attention/to_q/kernel"
)
_VAE_RENAMES = (
    (r"mid_block/attention/", "mid_block/attentions_0/"),
    (r"downsamplers_0/", "downsamplers_0/conv/"),
    *_NUMBERED,
)
_VAES = (
    _vae(
        **_KERAS,
        renames=(
            *keras_list("down_blocks", "down_blocks", "image_block"),
            *keras_list("up_blocks", "up_blocks", "image_block"),
            *keras_list("resnets", "resnets", "image_residual_block"),
            (r"(down|up)samplers_0/", "sampler/"),
            *KERAS_LEAVES,
        ),
        roots=("layers/autoencoder/", "vae/layers/autoencoder/"),
    ),
    _vae(
        name="diffusers",
        **_TORCH,
        renames=(*_VAE_RENAMES, (r"to_out/", "to_out.0/"), *TORCH_LEAVES),
    ),
    # Files from before diffusers 0.15, such as Stable Diffusion 1.5's own.
    _vae(
        name="diffusers_old",
        **_TORCH,
        renames=(
            *_VAE_RENAMES,
            (r"to_q/", "query/"),
            (r"to_k/", "key/"),
            (r"to_v/", "value/"),
            (r"to_out/", "proj_attn/"),
            *TORCH_LEAVES,
        ),
    ),
    _vae(
        name="ldm",
        **_TORCH,
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
        groups=CONVOLVED_ATTENTION,
        roots=("first_stage_model.", ""),
        # The loss that the autoencoder was trained with may lie beside it.
        ignored=r"^(first_stage_model\.)?(loss|model_ema)\.",
    ),
)

# The tiny autoencoder, whose layers are named by their place.

_tiny_vae = functools.partial(Layout, kind="tiny_vae", marker="decoder/layers_0/kernel")
_TINY_VAES = (
    _tiny_vae(**_KERAS, renames=KERAS_LEAVES, roots=("layers/tiny_autoencoder/",)),
    _tiny_vae(
        name="diffusers",
        **_TORCH,
        renames=((r"(layers|conv)_", r"\1/"), *TORCH_LEAVES),
    ),
)

# CLIP's text encoder.

_TEXT_DIFFUSERS = Layout(
    name="diffusers",
    kind="text_encoder",
    **_TORCH,
    renames=(
        (r"^embedding/", "embeddings/"),
        (r"^encoder_block_(\d+)/", r"encoder/layers/\1/"),
        (r"/layer_norm_(\d)/", r"/layer_norm\1/"),
        (r"^layer_norm/", "final_layer_norm/"),
        (r"attention/query/", "self_attn/q_proj/"),
        (r"attention/key/", "self_attn/k_proj/"),
        (r"attention/value/", "self_attn/v_proj/"),
        (r"attention/attention_output/", "self_attn/out_proj/"),
        (r"dense_(\d)/", r"mlp/fc\1/"),
        *TORCH_LEAVES,
    ),
    marker="embedding/token_embedding/embeddings",
    groups=HEADS,
    # transformers 5 writes no prefix, and reads both.
    roots=("text_model.", ""),
    # A buffer of 0, 1, 2, ... that older files carry along.
    ignored=r"embeddings\.position_ids$",
)
_TEXT_ENCODERS = (
    Layout(
        **_KERAS,
        kind="text_encoder",
        renames=(
            (r"^embedding/", "token_and_position_embedding/"),
            (r"^encoder_block_0/", "clip_encoder_layer/"),
            (r"^encoder_block_(\d+)/", r"clip_encoder_layer_\1/"),
            (r"^layer_norm/", "layer_normalization/"),
            (r"attention/(query|key|value)/", r"attention/\1_dense/"),
            (r"attention/attention_output/", "attention/output_dense/"),
            *KERAS_LEAVES,
        ),
        marker=_TEXT_DIFFUSERS.marker,
        roots=("layers/", "text_encoder/layers/"),
    ),
    _TEXT_DIFFUSERS,
    replace(
        _TEXT_DIFFUSERS,
        name="ldm",
        roots=(
            "cond_stage_model.transformer.text_model.",
            "cond_stage_model.transformer.",
        ),
    ),
)

LAYOUTS: tuple[Layout, ...] = (*_UNETS, *_VAES, *_TEXT_ENCODERS, *_TINY_VAES)


def get_layout(kind: str, name: str) -> Layout:
    """The layout of a name for a kind of model; `ValueError` if it has none such."""
    named = {layout.name: layout for layout in LAYOUTS if layout.kind == kind}
    check_choice(f"The layout of a {kind}", name, named)
    return named[name]
