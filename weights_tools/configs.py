"""Configurations of others in our names, and bounds on what any may ask for.

A hostile configuration must not decide how long we compute: no size is larger than an
architecture of this family can have.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from keras_makeavid.given_frames import Shares
from keras_makeavid.json_files import read_object
from keras_makeavid.models import AutoencoderKL, UNetPseudo3D
from keras_makeavid.models.unet_pseudo3d import MOTION_MODULES
from keras_makeavid.text import TextEncoder
from keras_makeavid.validation import ValidationError, validate

# A configuration is some thousand bytes.
_MAX_BYTES = 2**20

_Size = Annotated[int, Meta(ge=1, le=2**17)]
_Count = Annotated[int, Meta(ge=1, le=64)]
_Sizes = Annotated[tuple[_Size, ...], Meta(min_length=1, max_length=64)]
_Counts = Annotated[tuple[_Count, ...], Meta(min_length=1, max_length=64)]
_Switches = Annotated[tuple[bool, ...], Meta(min_length=1, max_length=64)]
_Names = Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)]
_Fraction = Annotated[float, Meta(gt=0, le=1)]
_Factor = Annotated[float, Meta(gt=0, le=2**17)]
# Of latents, whose sides in pixels are some times more.
_Side = Annotated[int, Meta(ge=1, le=2**12)]


def _each(keys: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(keys.split(), value)


# The type of each argument of our models, and of a task.
_ARGUMENTS: dict[str, Any] = {
    **_each("in_channels out_channels latent_channels context_dim groups", _Size),
    **_each("embedding_dim hidden_dim intermediate_dim vocabulary_size", _Size),
    **_each("max_sequence_length height width num_frames", _Size),
    "num_heads": _Size | _Sizes,
    "block_channels": _Sizes,
    "attention_levels": _Switches,
    "channels": _Size,
    **_each("encoder_blocks decoder_blocks", _Counts),
    **_each("layers_per_block num_layers", _Count),
    **_each("epsilon transformer_epsilon layer_norm_epsilon", _Fraction),
    **_each("scaling_factor fps", _Factor),
    "guidance_scale": float,
    "given_frames": Shares,
    **_each("gelu intermediate_activation", str),
    "temporal": bool | str,
    **_each("motion_num_heads motion_positions", _Size),
    **_each("motion_interpolation motion_mid_block motion_norm_over_frames", bool),
    "residual_norm_over_frames": bool,
}


@dataclass(frozen=True)
class _Format:
    """How others write the configuration of one kind of model.

    Args:
        model: What it configures, for the text of errors.
        renamed: Our names of their keys.
        own: Our arguments that it may hold too, and that override.
        only: For each further key, the values that our model supports. Others would
            be another architecture.
        blocks: Keys that list the kinds of blocks.
        ignored: Keys that do not change the function. `None` ignores all others.
        required: Keys that must be there.
    """

    model: str
    renamed: Mapping[str, str]
    own: Sequence[str]
    only: Mapping[str, tuple]
    blocks: Sequence[str] = ()
    ignored: Sequence[str] | None = ()
    required: Sequence[str] = ()

    @functools.cached_property
    def _types(self) -> dict[str, Any]:
        return {
            **dict.fromkeys(self.ignored or (), Any),
            **{key: _one_of(values) for key, values in self.only.items()},
            **dict.fromkeys(self.blocks, _Names),
            **{key: _ARGUMENTS.get(key, Any) for key in self.own},
            **{theirs: _ARGUMENTS[ours] for theirs, ours in self.renamed.items()},
        }

    @functools.cached_property
    def _table(self) -> type:
        fields: list[Any] = [
            (key, kind) if key in self.required else (key, kind, None)
            for key, kind in self._types.items()
        ]
        return msgspec.defstruct(
            "Config",
            fields,
            kw_only=True,
            forbid_unknown_fields=self.ignored is not None,
        )

    def read(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of our class that a configuration of theirs gives."""
        # An underscore begins what says who wrote it. What is null is not there, and
        # in diffusers a part of an architecture is null where a model lacks it.
        known = {
            key: value
            for key, value in config.items()
            if key in self._types or not (str(key).startswith("_") or value is None)
        }
        _check(known, self._table, f"The {self.model} config")
        arguments = {o: config[t] for t, o in self.renamed.items() if t in config}
        return arguments | {key: config[key] for key in self.own if key in config}

    def write(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The keys of theirs that our arguments give."""
        config = {theirs: arguments[ours] for theirs, ours in self.renamed.items()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}


def _check(value: Any, kind: Any, what: str) -> Any:
    try:
        return validate(value, kind, what)
    except ValidationError as error:
        raise ValueError(f"{what}: {'; '.join(error.problems)}") from error


def _one_of(values: tuple) -> Any:
    def check(value):
        if value not in values:
            raise ValueError(value)

    listed = " or ".join(map(repr, values))
    return Annotated[
        Any,
        Meta(
            description=f"{listed} in this architecture",
            extra={"check": check},
        ),
    ]


_UNET = _Format(
    model="UNet",
    renamed={
        "in_channels": "in_channels",
        "out_channels": "out_channels",
        "block_out_channels": "block_channels",
        "layers_per_block": "layers_per_block",
        "attention_head_dim": "num_heads",
        "cross_attention_dim": "context_dim",
        "norm_num_groups": "groups",
        "norm_eps": "epsilon",
    },
    own=tuple(
        _each(
            "block_channels num_heads context_dim attention_levels gelu groups epsilon "
            "transformer_epsilon name dtype",
            None,
        )
    ),
    blocks=("down_block_types", "up_block_types"),
    only={
        **_each(
            "center_input_sample use_linear_projection dual_cross_attention "
            "only_cross_attention resnet_skip_time_act class_embeddings_concat",
            (False,),
        ),
        "flip_sin_to_cos": (True,),
        **_each("freq_shift dropout", (0,)),
        **_each(
            "downsample_padding transformer_layers_per_block mid_block_scale_factor "
            "resnet_out_scale_factor",
            (1,),
        ),
        **_each("conv_in_kernel conv_out_kernel", (3,)),
        **_each("resnet_time_scale_shift attention_type", ("default",)),
        "act_fn": ("silu", "swish"),
        "time_embedding_type": ("positional",),
        "mid_block_only_cross_attention": (None, False),
        "mid_block_type": (
            "UNetMidBlock2DCrossAttn",
            "UNetMidBlockPseudo3DCrossAttn",
            "UNetMidBlock3DCrossAttn",
        ),
    },
    # The size that it was trained at, and hints.
    ignored=(
        *("sample_size", "upcast_attention", "addition_time_embed_dim"),
        *("addition_embed_type_num_heads", "use_memory_efficient_attention"),
        # Of Flax: the dtype is the new model's own affair.
        "param_dtype",
    ),
)

# Whether each kind of block has attention.
_DOWN_BLOCKS = {
    f"{attention}DownBlock{kind}": bool(attention)
    for attention in ("CrossAttn", "")
    for kind in ("2D", "Pseudo3D", "3D", "Motion")
}
_UP_BLOCKS = {name.replace("Down", "Up"): attn for name, attn in _DOWN_BLOCKS.items()}

# AnimateDiff's motion modules, by themselves and in a UNet.
_OWN_MOTION = "motion_interpolation motion_norm_over_frames residual_norm_over_frames"
_MODULES = {
    "motion_num_attention_heads": "motion_num_heads",
    "motion_max_seq_length": "motion_positions",
    "use_motion_mid_block": "motion_mid_block",
}

_ADAPTER = _Format(
    model="motion adapter",
    renamed={
        "block_out_channels": "block_channels",
        "motion_layers_per_block": "layers_per_block",
        "motion_norm_num_groups": "groups",
        **_MODULES,
    },
    own=tuple(_each(_OWN_MOTION, None)),
    only=_each(
        "motion_transformer_layers_per_block motion_mid_block_layers_per_block "
        "motion_transformer_layers_per_mid_block",
        (1,),
    ),
)

_UNET_MOTION = replace(
    _UNET,
    model="motion UNet",
    renamed={
        theirs: ours
        for theirs, ours in _UNET.renamed.items()
        if theirs != "attention_head_dim"
    }
    | {"num_attention_heads": "num_heads", **_MODULES},
    own=(*_UNET.own, *_each(_OWN_MOTION, None)),
    only={
        **{k: v for k, v in _UNET.only.items() if k != "mid_block_type"},
        **_each(
            "temporal_transformer_layers_per_block mid_block_layers "
            "temporal_transformer_layers_per_mid_block",
            (1,),
        ),
        "transformer_layers_per_mid_block": (None, 1),
    },
)

_AUTOENCODER = _Format(
    model="autoencoder",
    renamed={
        "in_channels": "in_channels",
        "latent_channels": "latent_channels",
        "block_out_channels": "block_channels",
        "layers_per_block": "layers_per_block",
        "norm_num_groups": "groups",
        "scaling_factor": "scaling_factor",
    },
    own=("block_channels", "groups", "epsilon", "name", "dtype"),
    blocks=("down_block_types", "up_block_types"),
    only={
        "_class_name": ("AutoencoderKL", "FlaxAutoencoderKL"),
        "act_fn": ("silu", "swish"),
        "use_quant_conv": (True,),
        "use_post_quant_conv": (True,),
        "mid_block_add_attention": (True,),
    },
    ignored=("sample_size", "force_upcast", "out_channels"),
)

_CODER_BLOCKS = {
    "down_block_types": "DownEncoderBlock2D",
    "up_block_types": "UpDecoderBlock2D",
}

_TINY_CHANNELS = ("encoder_block_out_channels", "decoder_block_out_channels")

_TINY_AUTOENCODER = _Format(
    model="tiny autoencoder",
    renamed={
        "in_channels": "in_channels",
        "latent_channels": "latent_channels",
        "num_encoder_blocks": "encoder_blocks",
        "num_decoder_blocks": "decoder_blocks",
        "scaling_factor": "scaling_factor",
    },
    own=("channels", "name", "dtype"),
    only={
        "_class_name": ("AutoencoderTiny",),
        "act_fn": ("relu",),
        "upsample_fn": ("nearest",),
        "upsampling_scaling_factor": (2,),
        "shift_factor": (0,),
    },
    ignored=(
        # How latents are kept as bytes, which neither coder does.
        *("latent_magnitude", "latent_shift", "force_upcast"),
        # Read by themselves: all channels are one number.
        *("out_channels", "block_out_channels", *_TINY_CHANNELS),
    ),
)

_TEXT_SIZES = {
    "vocab_size": "vocabulary_size",
    "max_position_embeddings": "max_sequence_length",
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
}

_TEXT_ENCODER = _Format(
    model="CLIP text",
    renamed={**_TEXT_SIZES, "layer_norm_eps": "layer_norm_epsilon"},
    own=(),
    # Both libraries use the same two names, "gelu" being the exact form.
    only={"hidden_act": ("quick_gelu", "gelu")},
    ignored=None,
    required=tuple(_TEXT_SIZES),
)


def unet_from_diffusers_config(config: Mapping[str, Any]) -> UNetPseudo3D:
    """Build the UNet that a config of diffusers or of the original describes.

    In these configs `attention_head_dim` is the number of heads, a historical
    misnomer. A config with `_class_name` `"UNet2DConditionModel"` means Stable
    Diffusion's image model: exact GELU, transformer epsilon 1e-6 and diffusers'
    defaults for absent keys. `"UNetMotionModel"` means that with motion modules, whose
    norms are those of their version in AnimateDiff (docs/animatediff.md). Any other
    means the pseudo-3D model with its defaults (docs/model.md). Our own keys, such as
    `gelu`, override.

    Args:
        config: Dict of `unet/config.json`.

    Returns:
        A `UNetPseudo3D` with fresh weights.

    Raises:
        ValueError: A key is unknown, or its value asks for another architecture.

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
    return UNetPseudo3D(**our_arguments("unet", config))


def autoencoder_from_diffusers_config(config: Mapping[str, Any]) -> AutoencoderKL:
    """Build the autoencoder that a config of diffusers describes.

    Absent keys have diffusers' defaults. Our own keys, such as `dtype`, override.

    Args:
        config: Dict of `vae/config.json`.

    Returns:
        An `AutoencoderKL` with fresh weights.

    Raises:
        ValueError: A key is unknown, or its value asks for another architecture.

    Example:
    ```python
    autoencoder = autoencoder_from_diffusers_config(
        {"block_out_channels": [32, 64], "layers_per_block": 1}
    )
    ```
    """
    return AutoencoderKL(**our_arguments("vae", config))


def text_encoder_from_transformers_config(
    config: Mapping[str, Any], dtype: str | None = None
) -> TextEncoder:
    """Build the text encoder that a config of transformers describes.

    Args:
        config: Dict of transformers' `CLIPTextModel`, as in its `config.json`.
        dtype: Dtype or dtype policy of the encoder. `None` is Keras's default.

    Returns:
        A `TextEncoder` with fresh weights.

    Raises:
        ValueError: The config lacks a size, or holds one that no CLIP has.

    Example:
    ```python
    config = transformers.CLIPTextConfig(num_hidden_layers=2).to_dict()
    encoder = text_encoder_from_transformers_config(config)
    ```
    """
    return TextEncoder(**our_arguments("text_encoder", config), dtype=dtype)


def our_arguments(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of our class for a config of others."""
    arguments = _READERS[kind](config)
    return {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}


def their_config(
    kind: str, arguments: Mapping[str, Any], is_video: bool = False
) -> dict[str, Any]:
    """The config of diffusers, transformers or the original for all our arguments.

    With `is_video` it describes the original's pseudo-3D UNet, or diffusers'
    `UNetMotionModel`, not the image model inside. Our own keys are in it where the
    class that it names would have another value.
    """
    if kind == "unet":
        return _unet_config(arguments, is_video)
    if kind == "vae":
        return _autoencoder_config(arguments)
    if kind == "tiny_vae":
        return _tiny_autoencoder_config(arguments)
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        **_TEXT_ENCODER.write(arguments),
        "hidden_act": arguments["intermediate_activation"],
        "projection_dim": arguments["hidden_dim"],
    }


def _read_unet(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("_class_name") in ("MotionAdapter", "UNetMotionModel"):
        return _read_motion(config)
    told = _UNET.read(config)
    arguments: dict[str, Any] = {}
    if config.get("_class_name") == "UNet2DConditionModel":
        # diffusers' own defaults, where its config file is silent.
        arguments = {
            "in_channels": 4,
            "context_dim": 1280,
            "gelu": "exact",
            "transformer_epsilon": 1e-6,
        }
    return arguments | _attention_levels(config) | told


def _read_motion(config: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "in_channels": 4,
        "gelu": "exact",
        "transformer_epsilon": 1e-6,
        "temporal": MOTION_MODULES,
        # diffusers' default.
        "motion_mid_block": True,
    }
    if config["_class_name"] == "MotionAdapter":
        arguments |= _ADAPTER.read(config)
        levels = len(arguments.get("block_channels", (320, 640, 1280, 1280)))
        arguments["attention_levels"] = (True,) * (levels - 1) + (False,)
    else:
        arguments["context_dim"] = 1280
        arguments |= _attention_levels(config) | _UNET_MOTION.read(config)
    is_v1 = motion_version(arguments) == "v1"
    return {"residual_norm_over_frames": is_v1, **arguments}


def motion_version(arguments: Mapping[str, Any]) -> str:
    """Which of AnimateDiff's published forms motion modules have, by their arguments.

    `"v2"` has a module in the middle block, as AnimateLCM and Lightning; `"v1"` has
    positions for 24 frames; other modules are of the form of `"v3"`.
    """
    if arguments.get("motion_mid_block"):
        return "v2"
    return "v1" if arguments.get("motion_positions", 32) <= 24 else "v3"


def adapter_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The config of diffusers' `MotionAdapter` for all our arguments."""
    config = {"_class_name": "MotionAdapter", **_ADAPTER.write(arguments)}
    return config | _own_motion(config, arguments)


def _own_motion(config, arguments) -> dict[str, Any]:
    """Arguments for which their config has no key, where ours would differ."""
    defaults = {
        "motion_interpolation": False,
        "motion_norm_over_frames": False,
        "gelu": "exact",
        "transformer_epsilon": 1e-6,
        **_read_motion(config),
    }
    own = _OWN_MOTION.split()
    if config["_class_name"] == "UNetMotionModel":
        own += ["gelu", "transformer_epsilon"]
    return {k: arguments[k] for k in own if arguments[k] != defaults[k]}


def _attention_levels(config) -> dict[str, Any]:
    down = _levels(config, "down_block_types", _DOWN_BLOCKS)
    up = _levels(config, "up_block_types", _UP_BLOCKS)
    if down and up and down != up[::-1]:
        raise ValueError(
            "up_block_types must mirror down_block_types. Received: "
            f"down_block_types={list(config['down_block_types'])}, "
            f"up_block_types={list(config['up_block_types'])}"
        )
    levels = down or (up and up[::-1])
    return {"attention_levels": levels} if levels else {}


def _levels(config, key, kinds) -> tuple[bool, ...] | None:
    if key not in config:
        return None
    unknown = [name for name in config[key] if name not in kinds]
    if unknown:
        raise ValueError(f"{key} must be of {sorted(kinds)}. Received: {unknown}")
    return tuple(kinds[name] for name in config[key])


def _unet_config(arguments: Mapping[str, Any], is_video: bool) -> dict[str, Any]:
    has_modules = is_video and arguments["temporal"] == MOTION_MODULES
    name = "Motion" if has_modules else "Pseudo3D" if is_video else "2D"
    down = [
        f"{'CrossAttn' if attention else ''}DownBlock{name}"
        for attention in arguments["attention_levels"]
    ]
    blocks = {
        "down_block_types": down,
        "up_block_types": [block.replace("Down", "Up") for block in reversed(down)],
    }
    if has_modules:
        config = {"_class_name": "UNetMotionModel", **_UNET_MOTION.write(arguments)}
        return config | blocks | _own_motion(config | blocks, arguments)
    config = {
        "_class_name": f"UNet{name}ConditionModel",
        **_UNET.write(arguments),
        **blocks,
        "mid_block_type": f"UNetMidBlock{name}CrossAttn",
    }
    defaults = {"gelu": "tanh", "transformer_epsilon": 1e-5, **_read_unet(config)}
    own = ("gelu", "transformer_epsilon")
    return config | {k: arguments[k] for k in own if arguments[k] != defaults[k]}


def _read_autoencoder(config: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        **{"in_channels": 3, "block_channels": (64,), "layers_per_block": 1},
        **_AUTOENCODER.read(config),
    }
    for key, kind in _CODER_BLOCKS.items():
        expected = [kind] * len(arguments["block_channels"])
        if list(config.get(key, expected)) != expected:
            raise ValueError(
                f"{key} must be {expected} for block_out_channels="
                f"{list(arguments['block_channels'])}. Received: {list(config[key])}"
            )
    _check_out_channels(config, arguments)
    return arguments


def _check_out_channels(config, arguments):
    if config.get("out_channels", 3) != arguments["in_channels"]:
        raise ValueError(
            "out_channels must equal in_channels in this architecture. Received: "
            f"out_channels={config.get('out_channels', 3)}, "
            f"in_channels={arguments['in_channels']}"
        )


def _autoencoder_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    levels = len(arguments["block_channels"])
    # diffusers has no key for it.
    own = {} if arguments["epsilon"] == 1e-6 else {"epsilon": arguments["epsilon"]}
    return {
        "_class_name": "AutoencoderKL",
        **_AUTOENCODER.write(arguments),
        "out_channels": arguments["in_channels"],
        "act_fn": "silu",
        **{key: [kind] * levels for key, kind in _CODER_BLOCKS.items()},
        **own,
    }


def _read_tiny_autoencoder(config: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {
        "in_channels": 3,
        "encoder_blocks": (1, 3, 3, 3),
        "decoder_blocks": (3, 3, 3, 1),
        **_TINY_AUTOENCODER.read(config),
    }
    _check_out_channels(config, arguments)
    for coder, key in zip(("encoder", "decoder"), _TINY_CHANNELS, strict=True):
        levels = len(arguments[f"{coder}_blocks"])
        channels = list(_check(config.get(key, (64,) * levels), _Sizes, key))
        # A block keeps the channels of its input.
        if channels != [arguments.setdefault("channels", channels[0])] * levels:
            raise ValueError(
                f"{key} must be one number for each of num_{coder}_blocks, all "
                f"{arguments['channels']} in this architecture. Received: {channels}"
            )
    return arguments


def _tiny_autoencoder_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    channels = [
        [arguments["channels"]] * len(arguments[f"{coder}_blocks"])
        for coder in ("encoder", "decoder")
    ]
    return {
        "_class_name": "AutoencoderTiny",
        **_TINY_AUTOENCODER.write(arguments),
        "out_channels": arguments["in_channels"],
        **dict(zip(_TINY_CHANNELS, channels, strict=True)),
    }


def _read_text_encoder(config: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {"layer_norm_epsilon": 1e-5, **_TEXT_ENCODER.read(config)}
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ValueError(
            "hidden_size must be a multiple of num_attention_heads. Received: "
            f"hidden_size={config['hidden_size']}, "
            f"num_attention_heads={config['num_attention_heads']}"
        )
    return {
        **arguments,
        "embedding_dim": config["hidden_size"],
        "intermediate_activation": config.get("hidden_act", "quick_gelu"),
    }


_READERS = {
    "unet": _read_unet,
    "vae": _read_autoencoder,
    "text_encoder": _read_text_encoder,
    "tiny_vae": _read_tiny_autoencoder,
}


def read_config(path: Path) -> dict[str, Any]:
    """Read a `config.json`; a `ValueError` names one that is no JSON object."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration at {path}")
    return read_object(path, _MAX_BYTES)


def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the keys of a configuration that say nothing of the architecture."""
    others = ("name", "trainable", "dtype", "param_dtype")
    return {key: value for key, value in config.items() if key not in others}


_KNOWN = msgspec.defstruct(
    "Arguments", [(key, kind, None) for key, kind in _ARGUMENTS.items()], kw_only=True
)


def check_arguments(kind: str, arguments: Mapping[str, Any]) -> None:
    """Check that known arguments of a model or task have their types and sane sizes."""
    _check(arguments, _KNOWN, f"The configuration of a {kind}")


def sides_of(sample_size: Any) -> tuple[int, int]:
    """Height and width that diffusers' `sample_size` means, a number or two."""
    if not isinstance(sample_size, list | tuple):
        sample_size = [sample_size] * 2
    return _check(sample_size, tuple[_Side, _Side], "sample_size")
