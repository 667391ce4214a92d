"""Configurations of transformers' CLIP text model, in our names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_makeavid.text import TextEncoder

# transformers' name of each size, ours, and a bound that keeps a hostile config from
# asking for more than any CLIP has.
_SIZES = {
    "vocab_size": ("vocabulary_size", 2**20),
    "max_position_embeddings": ("max_sequence_length", 2**12),
    "hidden_size": ("hidden_dim", 2**13),
    "intermediate_size": ("intermediate_dim", 2**15),
    "num_hidden_layers": ("num_layers", 2**7),
    "num_attention_heads": ("num_heads", 2**7),
}

# Both libraries use the same two names, "gelu" being the exact form.
_ACTIVATIONS = ("quick_gelu", "gelu")


def text_encoder_from_transformers_config(
    config: Mapping[str, Any], dtype: str | None = None
) -> TextEncoder:
    """Build a text encoder with fresh weights.

    Args:
        config: dict of transformers' `CLIPTextModel`, as in its `config.json`.
        dtype: dtype or dtype policy of the encoder; Keras's default if `None`.

    Returns:
        The encoder.

    Raises:
        ValueError: if the config lacks a size, or holds one that no CLIP has.

    Example:
    ```python
    config = transformers.CLIPTextConfig(num_hidden_layers=2).to_dict()
    encoder = text_encoder_from_transformers_config(config)
    ```
    """
    return TextEncoder(**text_encoder_arguments(config), dtype=dtype)


def text_encoder_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `TextEncoder` for a config of transformers.

    Args:
        config: dict of transformers' `CLIPTextModel`.

    Raises:
        ValueError: if the config lacks a size, or holds one that no CLIP has.
    """
    _check(config)
    return {
        **{ours: config[theirs] for theirs, (ours, _) in _SIZES.items()},
        "embedding_dim": config["hidden_size"],
        "intermediate_activation": config.get("hidden_act", "quick_gelu"),
        "layer_norm_epsilon": config.get("layer_norm_eps", 1e-5),
    }


def transformers_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The config of transformers for arguments of `TextEncoder`."""
    sizes = {theirs: arguments[ours] for theirs, (ours, _) in _SIZES.items()}
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        **sizes,
        "hidden_act": arguments["intermediate_activation"],
        "layer_norm_eps": arguments["layer_norm_epsilon"],
        "projection_dim": arguments["hidden_dim"],
    }


def _check(config: Mapping[str, Any]) -> None:
    for key, (_, limit) in _SIZES.items():
        size = config.get(key)
        if type(size) is not int or not 1 <= size <= limit:
            raise ValueError(
                f"expected a CLIP text model's config, with {key} from 1 to {limit}. "
                f"Received: {key}={size!r}"
            )
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ValueError(
            "hidden_size must be a multiple of num_attention_heads. Received: "
            f"hidden_size={config['hidden_size']}, "
            f"num_attention_heads={config['num_attention_heads']}"
        )
    activation = config.get("hidden_act", "quick_gelu")
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"hidden_act must be one of {_ACTIVATIONS}. Received: {activation!r}"
        )
    epsilon = config.get("layer_norm_eps", 1e-5)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ValueError(
            f"layer_norm_eps must be between 0 and 1. Received: {epsilon!r}"
        )
