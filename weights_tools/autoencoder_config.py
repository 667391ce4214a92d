"""Configurations of diffusers' autoencoder, in our names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_makeavid.models import AutoencoderKL
from weights_tools.config import check_supported
from weights_tools.configuration import check_arguments, check_names

# Keys that carry over under another name, or under their own.
_RENAMED = {
    "in_channels": "in_channels",
    "latent_channels": "latent_channels",
    "block_out_channels": "block_channels",
    "layers_per_block": "layers_per_block",
    "norm_num_groups": "groups",
    "scaling_factor": "scaling_factor",
}

_OWN = {"block_channels", "groups", "epsilon", "name", "dtype"}

_BLOCK_TYPES = {
    "down_block_types": "DownEncoderBlock2D",
    "up_block_types": "UpDecoderBlock2D",
}

# What the model supports of keys that ours does not have: other values would
# be another architecture.
_ONLY = {
    "_class_name": ("AutoencoderKL", "FlaxAutoencoderKL"),
    "act_fn": ("silu", "swish"),
    "shift_factor": (None,),
    "latents_mean": (None,),
    "latents_std": (None,),
    "use_quant_conv": (True,),
    "use_post_quant_conv": (True,),
    "mid_block_add_attention": (True,),
}

# Keys that do not change the function: the size it was trained at, and hints.
_IGNORED = {"sample_size", "force_upcast"}


def autoencoder_from_diffusers_config(config: Mapping[str, Any]) -> AutoencoderKL:
    """Build the autoencoder that a config of diffusers describes.

    Absent keys have diffusers' defaults. Our own keys, such as `dtype`, override.

    Args:
        config: dict of `vae/config.json`.

    Returns:
        An `AutoencoderKL` with fresh weights.

    Raises:
        ValueError: if a key is unknown or its value asks for another architecture.

    Example:
    ```python
    autoencoder = autoencoder_from_diffusers_config(
        {"block_out_channels": [32, 64], "layers_per_block": 1}
    )
    ```
    """
    return AutoencoderKL(**autoencoder_arguments(config))


def autoencoder_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `AutoencoderKL` for a config of diffusers.

    Args:
        config: dict of `vae/config.json`.

    Raises:
        ValueError: if a key is unknown or its value asks for another architecture.

    Example:
    ```python
    autoencoder_arguments({"norm_num_groups": 8})["groups"]  # 8
    ```
    """
    known = _RENAMED.keys() | _OWN | _BLOCK_TYPES.keys() | _IGNORED | {"out_channels"}
    check_supported(config, known, _ONLY, "autoencoder")
    arguments = {"in_channels": 3, "block_channels": (64,), "layers_per_block": 1}
    arguments |= {ours: config[k] for k, ours in _RENAMED.items() if k in config}
    arguments |= {key: config[key] for key in _OWN & config.keys()}
    check_arguments("autoencoder", arguments)
    arguments["block_channels"] = tuple(arguments["block_channels"])
    _check_blocks(config, arguments["block_channels"])
    if config.get("out_channels", 3) != arguments["in_channels"]:
        raise ValueError(
            "out_channels must equal in_channels in this architecture. Received: "
            f"out_channels={config.get('out_channels', 3)}, "
            f"in_channels={arguments['in_channels']}"
        )
    return arguments


def diffusers_autoencoder_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The config of diffusers for arguments of `AutoencoderKL`.

    Args:
        arguments: all arguments of `AutoencoderKL`.

    Returns:
        Dict of a `vae/config.json`, with our own key `epsilon` where it is not
        diffusers' 1e-6.
    """
    levels = len(arguments["block_channels"])
    config = {
        "_class_name": "AutoencoderKL",
        **{theirs: arguments[ours] for theirs, ours in _RENAMED.items()},
        "out_channels": arguments["in_channels"],
        "act_fn": "silu",
        **{key: [kind] * levels for key, kind in _BLOCK_TYPES.items()},
    }
    config["block_out_channels"] = list(config["block_out_channels"])
    own = {} if arguments["epsilon"] == 1e-6 else {"epsilon": arguments["epsilon"]}
    return config | own


def _check_blocks(config, block_channels):
    for key, kind in _BLOCK_TYPES.items():
        expected = [kind] * len(block_channels)
        if key not in config:
            continue
        check_names(config, key)
        if list(config[key]) != expected:
            raise ValueError(
                f"{key} must be {expected} for block_out_channels="
                f"{list(block_channels)}. Received: {list(config[key])}"
            )
