"""Configurations of the original and of diffusers, in our names."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from keras_makeavid.models import UNetPseudo3D
from weights_tools.configuration import check_arguments, check_names

# Keys that carry over under another name, or under their own.
_RENAMED = {
    "in_channels": "in_channels",
    "out_channels": "out_channels",
    "block_out_channels": "block_channels",
    "layers_per_block": "layers_per_block",
    "attention_head_dim": "num_heads",
    "cross_attention_dim": "context_dim",
    "norm_num_groups": "groups",
    "norm_eps": "epsilon",
}

_OWN = {
    "block_channels",
    "num_heads",
    "context_dim",
    "attention_levels",
    "gelu",
    "groups",
    "epsilon",
    "transformer_epsilon",
    "name",
    "dtype",
}

_DOWN_BLOCKS = {
    "CrossAttnDownBlock2D": True,
    "CrossAttnDownBlockPseudo3D": True,
    "CrossAttnDownBlock3D": True,
    "DownBlock2D": False,
    "DownBlockPseudo3D": False,
    "DownBlock3D": False,
}
_UP_BLOCKS = {name.replace("Down", "Up"): attn for name, attn in _DOWN_BLOCKS.items()}

# What the model supports of keys that ours does not have: other values would
# be another architecture.
_ONLY = {
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "act_fn": ("silu", "swish"),
    "center_input_sample": (False,),
    "downsample_padding": (1,),
    "mid_block_scale_factor": (1, 1.0),
    "mid_block_type": (
        "UNetMidBlock2DCrossAttn",
        "UNetMidBlockPseudo3DCrossAttn",
        "UNetMidBlock3DCrossAttn",
    ),
    "dropout": (0, 0.0),
    "use_linear_projection": (False,),
    "dual_cross_attention": (False,),
    "only_cross_attention": (False,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,),
    "transformer_layers_per_block": (1,),
    "reverse_transformer_layers_per_block": (None,),
    "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1, 1.0),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "attention_type": ("default",),
    "class_embeddings_concat": (False,),
    "mid_block_only_cross_attention": (None, False),
    "cross_attention_norm": (None,),
    "projection_class_embeddings_input_dim": (None,),
    "num_attention_heads": (None,),
}

# Keys that do not change the function: the size it was trained at, and hints.
_IGNORED = {"sample_size", "upcast_attention", "addition_time_embed_dim"} | {
    "addition_embed_type_num_heads",
    "use_memory_efficient_attention",
    # Of Flax: the dtype is the new model's own affair.
    "param_dtype",
}


def unet_from_diffusers_config(config: Mapping[str, Any]) -> UNetPseudo3D:
    """Build the UNet that a config of diffusers or of the original describes.

    In these configs `attention_head_dim` is the number of heads, a historical
    misnomer. A config with `_class_name` `"UNet2DConditionModel"` means Stable
    Diffusion's image model: exact GELU, transformer epsilon 1e-6 and diffusers'
    defaults for absent keys; any other means the pseudo-3D model with its defaults
    (spec section 1). Our own keys, such as `gelu`, override.

    Args:
        config: dict of `unet/config.json`.

    Returns:
        A `UNetPseudo3D` with fresh weights.

    Raises:
        ValueError: if a key is unknown or its value asks for another architecture.

    Example:
    ```python
    unet = unet_from_diffusers_config(
        {
            "block_out_channels": [32, 64],
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        }
    )
    ```
    """
    return UNetPseudo3D(**unet_arguments(config))


def unet_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `UNetPseudo3D` for a config of diffusers or of the original.

    Args:
        config: dict of `unet/config.json`.

    Raises:
        ValueError: if a key is unknown or its value asks for another architecture.

    Example:
    ```python
    unet_arguments({"cross_attention_dim": 768})  # {"context_dim": 768}
    ```
    """
    known = _RENAMED.keys() | _OWN | _IGNORED | {"down_block_types", "up_block_types"}
    check_supported(config, known, _ONLY, "UNet")
    arguments: dict[str, Any] = {}
    if config.get("_class_name") == "UNet2DConditionModel":
        # diffusers' own defaults, where its config file is silent.
        arguments = {
            "in_channels": 4,
            "context_dim": 1280,
            "gelu": "exact",
            "transformer_epsilon": 1e-6,
        }
    for theirs, ours in _RENAMED.items():
        if theirs in config:
            arguments[ours] = config[theirs]
    arguments.update(_attention_levels(config))
    arguments.update({key: config[key] for key in _OWN & config.keys()})
    for key in ("block_channels", "num_heads", "attention_levels"):
        if isinstance(arguments.get(key), list):
            arguments[key] = tuple(arguments[key])
    check_arguments("UNet", arguments)
    return arguments


def diffusers_unet_config(arguments: Mapping[str, Any], video: bool) -> dict[str, Any]:
    """The config, in the original's or diffusers' names, of a `UNetPseudo3D`.

    Args:
        arguments: all arguments of `UNetPseudo3D`.
        video: the pseudo-3D model's, or that of the image model inside.

    Returns:
        Dict of a `unet/config.json`. Our own keys are in it where the class that it
        names would have another value: `unet_arguments` gives the same model.

    Example:
    ```python
    diffusers_unet_config(unet.get_config(), video=False)["_class_name"]
    ```
    """
    kind = "Pseudo3D" if video else "2D"
    config = {
        "_class_name": f"UNet{kind}ConditionModel",
        **{theirs: arguments[ours] for theirs, ours in _RENAMED.items()},
    }
    config["block_out_channels"] = list(config["block_out_channels"])
    down = [
        f"{'CrossAttn' if attention else ''}DownBlock{kind}"
        for attention in arguments["attention_levels"]
    ]
    config["down_block_types"] = down
    config["up_block_types"] = [n.replace("Down", "Up") for n in reversed(down)]
    config["mid_block_type"] = f"UNetMidBlock{kind}CrossAttn"
    told = unet_arguments(config)
    defaults = {"gelu": "tanh", "transformer_epsilon": 1e-5, **told}
    own = ("gelu", "transformer_epsilon")
    return config | {k: arguments[k] for k in own if arguments[k] != defaults[k]}


def _attention_levels(config) -> dict[str, Any]:
    down = _levels(config, "down_block_types", _DOWN_BLOCKS)
    up = _levels(config, "up_block_types", _UP_BLOCKS)
    if down is None and up is None:
        return {}
    if down is not None and up is not None and down != up[::-1]:
        raise ValueError(
            "up_block_types must mirror down_block_types. Received: "
            f"down_block_types={list(config['down_block_types'])}, "
            f"up_block_types={list(config['up_block_types'])}"
        )
    return {"attention_levels": down if down is not None else up[::-1]}


def _levels(config, key, kinds) -> tuple[bool, ...] | None:
    if key not in config:
        return None
    check_names(config, key)
    unknown = [name for name in config[key] if name not in kinds]
    if unknown:
        raise ValueError(f"{key} knows {sorted(kinds)}. Received: {unknown}")
    return tuple(kinds[name] for name in config[key])


def check_supported(
    config: Mapping[str, Any],
    known: Set[str],
    only: Mapping[str, tuple],
    model: str,
) -> None:
    """Check that a config asks for nothing that a model of ours cannot be.

    Args:
        config: dict of a `config.json`; keys that start with `_` may be unknown.
        known: keys that may have any value.
        only: for each further key, the values that are supported.
        model: name of the model, for the text of the error.

    Raises:
        ValueError: if a key is unknown or its value asks for another architecture.

    Example:
    ```python
    config = {"in_channels": 9, "act_fn": "silu"}
    check_supported(config, {"in_channels"}, {"act_fn": ("silu",)}, "UNet")
    ```
    """
    known = known | only.keys()
    unknown = [key for key in config if key not in known and not key.startswith("_")]
    if unknown:
        raise ValueError(f"Unknown keys in the {model} config: {sorted(unknown)}")
    for key, supported in only.items():
        if key in config and config[key] not in supported:
            raise ValueError(
                f"{key} must be one of {list(supported)} in this architecture. "
                f"Received: {config[key]!r}"
            )
