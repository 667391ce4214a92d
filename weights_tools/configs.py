"""Configurations of others in our names; no hostile one decides how much we compute."""

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
    **_each("in_channels out_channels latent_channels channels context_dim", _Size),
    **_each("embedding_dim hidden_dim intermediate_dim vocabulary_size", _Size),
    **_each("max_sequence_length height width num_frames groups", _Size),
    **_each("motion_num_heads motion_positions", _Size),
    "num_heads": _Size | _Sizes,
    "block_channels": _Sizes,
    "attention_levels": _Switches,
    **_each("encoder_blocks decoder_blocks", _Counts),
    **_each("layers_per_block num_layers", _Count),
    **_each("epsilon transformer_epsilon layer_norm_epsilon", _Fraction),
    **_each("scaling_factor fps", _Factor),
    "guidance_scale": float,
    "given_frames": Shares,
    "origin": dict[str, str],
    **_each("gelu intermediate_activation", str),
    "temporal": bool | str,
    **_each("motion_interpolation motion_mid_block motion_norm_over_frames", bool),
    "residual_norm_over_frames": bool,
}


@dataclass(frozen=True)
class _Format:
    """How others write the configuration of one kind of model."""

    model: str  # What it configures, for the text of errors.
    renamed: Mapping[str, str]  # Our names of their keys.
    further: Mapping[str, Any]  # Types of others: what our architecture has, or `Any`.
    own: Sequence[str] = ()  # Our arguments that it may hold too, and that override.
    required: Sequence[str] = ()
    strict: bool = True  # Whether there may be no other keys.

    @functools.cached_property
    def _table(self) -> Any:
        types = {
            **self.further,
            **{key: _ARGUMENTS.get(key, Any) for key in self.own},
            **{theirs: _ARGUMENTS[ours] for theirs, ours in self.renamed.items()},
        }
        fields: list[Any] = [
            (key, kind) if key in self.required else (key, kind, None)
            for key, kind in types.items()
        ]
        return msgspec.defstruct(
            "Config", fields, kw_only=True, forbid_unknown_fields=self.strict
        )

    def read(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of our class that a configuration of theirs gives."""
        # An underscore begins what says who wrote it. What is null is not there, and
        # in diffusers a part of an architecture is null where a model lacks it.
        known = {
            key: value
            for key, value in config.items()
            if key in self._table.__struct_fields__
            or not (str(key).startswith("_") or value is None)
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


def _only(*values: Any) -> Any:
    """The type of a key of which our architecture has these values alone."""

    def check(value):
        if value not in values:
            raise ValueError(value)

    listed = " or ".join(map(repr, values))
    said = f"{listed} in this architecture"
    return Annotated[Any, Meta(description=said, extra={"check": check})]


_UNET_KEYS = {
    "in_channels": "in_channels",
    "out_channels": "out_channels",
    "block_out_channels": "block_channels",
    "layers_per_block": "layers_per_block",
    "cross_attention_dim": "context_dim",
    "norm_num_groups": "groups",
    "norm_eps": "epsilon",
}

_UNET = _Format(
    model="UNet",
    renamed={**_UNET_KEYS, "attention_head_dim": "num_heads"},
    further={
        **_each("down_block_types up_block_types", _Names),
        **_each("center_input_sample use_linear_projection", _only(False)),
        **_each("dual_cross_attention only_cross_attention", _only(False)),
        **_each("resnet_skip_time_act class_embeddings_concat", _only(False)),
        "flip_sin_to_cos": _only(True),
        **_each("freq_shift dropout", _only(0)),
        **_each("downsample_padding transformer_layers_per_block", _only(1)),
        **_each("mid_block_scale_factor resnet_out_scale_factor", _only(1)),
        **_each("conv_in_kernel conv_out_kernel", _only(3)),
        **_each("resnet_time_scale_shift attention_type", _only("default")),
        "act_fn": _only("silu", "swish"),
        "time_embedding_type": _only("positional"),
        "mid_block_only_cross_attention": _only(None, False),
        "mid_block_type": _only(
            *(f"UNetMidBlock{kind}CrossAttn" for kind in ("2D", "Pseudo3D", "3D"))
        ),
        # The size that it was trained at, and hints.
        **_each("sample_size upcast_attention use_memory_efficient_attention", Any),
        **_each("addition_time_embed_dim addition_embed_type_num_heads", Any),
        # Of Flax: the dtype is the new model's own affair.
        "param_dtype": Any,
    },
    own=(
        *("block_channels", "num_heads", "context_dim", "attention_levels", "gelu"),
        *("groups", "epsilon", "transformer_epsilon", "name", "dtype"),
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
_MODULES = {
    "motion_num_attention_heads": "motion_num_heads",
    "motion_max_seq_length": "motion_positions",
    "use_motion_mid_block": "motion_mid_block",
}
_OWN_OF_MODULES = (
    *("motion_interpolation", "motion_norm_over_frames", "residual_norm_over_frames"),
)

_ADAPTER = _Format(
    model="motion adapter",
    renamed={
        "block_out_channels": "block_channels",
        "motion_layers_per_block": "layers_per_block",
        "motion_norm_num_groups": "groups",
        **_MODULES,
    },
    further={
        "motion_transformer_layers_per_block": _only(1),
        "motion_mid_block_layers_per_block": _only(1),
        "motion_transformer_layers_per_mid_block": _only(1),
    },
    own=_OWN_OF_MODULES,
)

_UNET_MOTION = replace(
    _UNET,
    model="motion UNet",
    renamed={**_UNET_KEYS, "num_attention_heads": "num_heads", **_MODULES},
    further={
        **{k: kind for k, kind in _UNET.further.items() if k != "mid_block_type"},
        **_each("temporal_transformer_layers_per_block mid_block_layers", _only(1)),
        "temporal_transformer_layers_per_mid_block": _only(1),
        "transformer_layers_per_mid_block": _only(None, 1),
    },
    own=(*_UNET.own, *_OWN_OF_MODULES),
)

# Of each class of diffusers the form of its config, and our arguments where that is
# silent. Any other class is the pseudo-3D model, with the defaults of ours.
_IMAGE_MODEL = {"in_channels": 4, "gelu": "exact", "transformer_epsilon": 1e-6}
_MOTION_MODEL = {**_IMAGE_MODEL, "temporal": MOTION_MODULES, "motion_mid_block": True}
_UNETS: dict[str, tuple[_Format, dict[str, Any]]] = {
    "UNet2DConditionModel": (_UNET, {**_IMAGE_MODEL, "context_dim": 1280}),
    "UNetMotionModel": (_UNET_MOTION, {**_MOTION_MODEL, "context_dim": 1280}),
    "MotionAdapter": (
        _ADAPTER,
        {**_MOTION_MODEL, "block_channels": (320, 640, 1280, 1280)},
    ),
}
# Our own arguments that none of their configs tells, where ours have other values.
_UNTOLD = {
    **{"gelu": "tanh", "transformer_epsilon": 1e-5},
    **dict.fromkeys(_OWN_OF_MODULES, False),
}

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
    further={
        **_each("down_block_types up_block_types", _Names),
        "_class_name": _only("AutoencoderKL", "FlaxAutoencoderKL"),
        "act_fn": _only("silu", "swish"),
        **_each("use_quant_conv use_post_quant_conv", _only(True)),
        "mid_block_add_attention": _only(True),
        **_each("sample_size force_upcast out_channels", Any),
    },
    own=("block_channels", "groups", "epsilon", "name", "dtype"),
)

_CODER_BLOCKS = {
    "down_block_types": "DownEncoderBlock2D",
    "up_block_types": "UpDecoderBlock2D",
}

_TINY_AUTOENCODER = _Format(
    model="tiny autoencoder",
    renamed={
        "in_channels": "in_channels",
        "latent_channels": "latent_channels",
        "num_encoder_blocks": "encoder_blocks",
        "num_decoder_blocks": "decoder_blocks",
        "scaling_factor": "scaling_factor",
    },
    further={
        "_class_name": _only("AutoencoderTiny"),
        "act_fn": _only("relu"),
        "upsample_fn": _only("nearest"),
        "upsampling_scaling_factor": _only(2),
        "shift_factor": _only(0),
        # How latents are kept as bytes, which neither coder does.
        **_each("latent_magnitude latent_shift force_upcast", Any),
        # Read by themselves: all channels are one number.
        **_each("out_channels block_out_channels", Any),
        **_each("encoder_block_out_channels decoder_block_out_channels", Any),
    },
    own=("channels", "name", "dtype"),
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
    # Both libraries use the same two names, "gelu" being the exact form.
    further={"hidden_act": _only("quick_gelu", "gelu")},
    required=tuple(_TEXT_SIZES),
    strict=False,
)


def unet_from_diffusers_config(config: Mapping[str, Any]) -> UNetPseudo3D:
    """Build the UNet that a `unet/config.json` of diffusers or the original describes.

    A key that is unknown, or asks for another architecture, is a `ValueError`.

    In it `attention_head_dim` is the number of heads, a historical misnomer. The class
    `"UNet2DConditionModel"` means Stable Diffusion's image model: exact GELU,
    transformer epsilon 1e-6 and diffusers' defaults for absent keys;
    `"UNetMotionModel"` that with motion modules, whose norms are those of their version
    in AnimateDiff (docs/animatediff.md); any other, or none, the pseudo-3D model with
    its defaults (docs/model.md). Our own keys, such as `gelu`, override.

    Example:
    ```python
    config = {"block_out_channels": [32, 64]}
    config["down_block_types"] = ["CrossAttnDownBlock2D", "DownBlock2D"]
    unet = unet_from_diffusers_config(config)
    ```
    """
    return UNetPseudo3D(**our_arguments("unet", config))


def autoencoder_from_diffusers_config(config: Mapping[str, Any]) -> AutoencoderKL:
    """Build the autoencoder that a `vae/config.json` of diffusers describes.

    Absent keys have diffusers' defaults; our own, such as `dtype`, override. One that
    is unknown, or asks for another architecture, is a `ValueError`.

    Example:
    ```python
    config = {"block_out_channels": [32, 64], "layers_per_block": 1}
    autoencoder = autoencoder_from_diffusers_config(config)
    ```
    """
    return AutoencoderKL(**our_arguments("vae", config))


def text_encoder_from_transformers_config(
    config: Mapping[str, Any], dtype: str | None = None
) -> TextEncoder:
    """Build the text encoder that a config of transformers' `CLIPTextModel` describes.

    A config that lacks a size, or holds one that no CLIP has, is a `ValueError`.

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
    """The config of others for all our arguments, of the video model if `is_video`."""
    if kind == "unet":
        return _unet_config(arguments, is_video)
    if kind == "text_encoder":
        return {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            **_TEXT_ENCODER.write(arguments),
            "hidden_act": arguments["intermediate_activation"],
            "projection_dim": arguments["hidden_dim"],
        }
    if kind == "tiny_vae":
        config = _TINY_AUTOENCODER.write(arguments)
        for coder in ("encoder", "decoder"):
            levels = len(arguments[f"{coder}_blocks"])
            config[f"{coder}_block_out_channels"] = [arguments["channels"]] * levels
        config["out_channels"] = arguments["in_channels"]
        return {"_class_name": "AutoencoderTiny", **config}
    levels = len(arguments["block_channels"])
    # diffusers has no key for it.
    own = {} if arguments["epsilon"] == 1e-6 else {"epsilon": arguments["epsilon"]}
    return {
        "_class_name": "AutoencoderKL",
        **_AUTOENCODER.write(arguments),
        "out_channels": arguments["in_channels"],
        "act_fn": "silu",
        **{key: [block] * levels for key, block in _CODER_BLOCKS.items()},
        **own,
    }


def adapter_config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The config of diffusers' `MotionAdapter` for all our arguments."""
    return _with_own({"_class_name": "MotionAdapter"}, arguments)


def _unet_config(arguments: Mapping[str, Any], is_video: bool) -> dict[str, Any]:
    has_modules = is_video and arguments["temporal"] == MOTION_MODULES
    name = "Motion" if has_modules else "Pseudo3D" if is_video else "2D"
    levels = arguments["attention_levels"]
    down = [f"{'CrossAttn' if attends else ''}DownBlock{name}" for attends in levels]
    config: dict[str, Any] = {
        "_class_name": f"UNet{name}{'' if has_modules else 'Condition'}Model",
        "down_block_types": down,
        "up_block_types": [block.replace("Down", "Up") for block in reversed(down)],
    }
    if not has_modules:
        config["mid_block_type"] = f"UNetMidBlock{name}CrossAttn"
    return _with_own(config, arguments)


def _with_own(config: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Add all arguments; those in our names that would be read otherwise without."""
    form, _ = _UNETS.get(config["_class_name"], (_UNET, {}))
    config = config | form.write(arguments)
    read = {**_UNTOLD, **_read_unet(config)}
    own = [k for k in _UNTOLD if k in form.own and arguments[k] != read[k]]
    return config | {key: arguments[key] for key in own}


def _read_unet(config: Mapping[str, Any]) -> dict[str, Any]:
    form, defaults = _UNETS.get(str(config.get("_class_name")), (_UNET, {}))
    arguments = {**defaults, **form.read(config)}
    if form is _ADAPTER:
        levels = len(arguments["block_channels"])
        arguments["attention_levels"] = (True,) * (levels - 1) + (False,)
    else:
        arguments = _attention_levels(config) | arguments
    if form is not _UNET:
        is_v1 = motion_version(arguments) == "v1"
        arguments.setdefault("residual_norm_over_frames", is_v1)
    return arguments


def motion_version(arguments: Mapping[str, Any]) -> str:
    """Which of AnimateDiff's published forms motion modules have, by their arguments.

    `"v2"` has a module in the middle block, as AnimateLCM and Lightning; `"v1"` has
    positions for 24 frames; other modules are of the form of `"v3"`.
    """
    if arguments.get("motion_mid_block"):
        return "v2"
    return "v1" if arguments.get("motion_positions", 32) <= 24 else "v3"


def _attention_levels(config) -> dict[str, Any]:
    down = _levels(config, "down_block_types", _DOWN_BLOCKS)
    up = _levels(config, "up_block_types", _UP_BLOCKS)
    if down and up and down != up[::-1]:
        raise ValueError(
            "up_block_types must mirror down_block_types. Received: "
            f"down_block_types={list(config['down_block_types'])}, "
            f"up_block_types={list(config['up_block_types'])}"
        )
    levels = down or up[::-1]
    return {"attention_levels": levels} if levels else {}


def _levels(config, key, kinds) -> tuple[bool, ...]:
    names = config.get(key, ())
    unknown = [name for name in names if name not in kinds]
    if unknown:
        raise ValueError(f"{key} must be of {sorted(kinds)}. Received: {unknown}")
    return tuple(kinds[name] for name in names)


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


def _read_tiny_autoencoder(config: Mapping[str, Any]) -> dict[str, Any]:
    blocks = {"encoder_blocks": (1, 3, 3, 3), "decoder_blocks": (3, 3, 3, 1)}
    arguments = {"in_channels": 3, **blocks, **_TINY_AUTOENCODER.read(config)}
    _check_out_channels(config, arguments)
    for coder in ("encoder", "decoder"):
        key = f"{coder}_block_out_channels"
        levels = len(arguments[f"{coder}_blocks"])
        channels = list(_check(config.get(key, (64,) * levels), _Sizes, key))
        # A block keeps the channels of its input.
        if channels != [arguments.setdefault("channels", channels[0])] * levels:
            raise ValueError(
                f"{key} must be one number for each of num_{coder}_blocks, all "
                f"{arguments['channels']} in this architecture. Received: {channels}"
            )
    return arguments


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
