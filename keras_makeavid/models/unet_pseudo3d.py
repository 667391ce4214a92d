"""Stable Diffusion's UNet, inflated to video."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_makeavid.json_files import read_json, write_json
from keras_makeavid.layers.dense import GELU_APPROXIMATIONS
from keras_makeavid.layers.int8 import network_policy
from keras_makeavid.layers.layer import Configured
from keras_makeavid.layers.motion_module import check_frames
from keras_makeavid.layers.unet import UNet, UNetDesign
from keras_makeavid.models.loading import Int8Backbone
from keras_makeavid.tensor import Shape
from keras_makeavid.validation import check_choice

# What `temporal` may be besides true and false.
PSEUDO_3D, MOTION_MODULES = "pseudo3d", "motion_modules"

# The class that a preset of this backbone is loaded by.
_TASK = "TextToVideo"


@keras.saving.register_keras_serializable(package="keras_makeavid")
class UNetPseudo3D(Configured, Int8Backbone):
    """Stable Diffusion 1.5's UNet, inflated to video (docs/model.md).

    One instance takes video and image; on an image every temporal part is skipped. A
    new model's temporal parts start as the identity, so that a still video of F equal
    frames gives the image model's output in each frame.

    Its temporal parts are those of Make-A-Video, or AnimateDiff's motion modules
    (docs/animatediff.md). The name is of the former: presets are loaded by it.

    The defaults are the full-size published model of Make-A-Video SD: 1,100,578,616
    parameters, of which 241,043,252 temporal.

    Args:
        in_channels: Channels of `sample`: noisy latent (4), mask (1), hint (4).
        out_channels: Channels of the prediction.
        block_channels: Channels of each level, from the finest to the coarsest.
        layers_per_block: Residual blocks of a down block; up blocks have one more.
        num_heads: Attention heads, one number or one for each level.
        context_dim: Width of the text states.
        attention_levels: Which levels have transformers, one for each level.
        gelu: `"tanh"` (the published video weights) or `"exact"` (Stable Diffusion).
        groups: Groups of every group norm.
        epsilon: Epsilon of the residual blocks' group norms.
        transformer_epsilon: Epsilon of the transformers' group norms; 1e-6 in Stable
            Diffusion 1.5 and in lxj616's video model.
        temporal: `"pseudo3d"`, which `True` means too: convolutions and attentions over
            frames inside of blocks. `"motion_modules"`: a `MotionModule` behind each
            residual block and its transformer. `False`: an image model, which takes the
            frames of a video each on its own.
        motion_num_heads: Attention heads of the motion modules. This and what follows
            is for `temporal="motion_modules"`; the defaults are AnimateDiff v3's.
        motion_positions: Frames that they have positions for: 24 in v1, or else 32.
        motion_interpolation: Whether more frames than that stretch the table.
        motion_mid_block: Whether there is a module in the middle block, as in v2.
        motion_norm_over_frames: Whether the statistics of the modules' own group norm
            run over all frames, as in diffusers; each frame has its own in AnimateDiff.
        residual_norm_over_frames: Whether those of the residual blocks and of the last
            norm do: in v1; each frame has its own in v2, v3 and diffusers.
        dtype: Dtype or dtype policy of computation and weights.

    Call arguments:
        inputs: Dict of `sample`: `(B, F, H, W, in_channels)` video or `(B, H, W,
            in_channels)` image, H and W multiples of `2 ** (levels - 1)`; `timesteps`:
            `(B,)`, 0 to 999; `context`: text states `(B, L, context_dim)`, or what
            `project_context` made of them. Others are a `ValueError`.
        spatial_only: Treat the frames of a video as images, each on its own.

    Returns:
        The prediction, of the shape of `sample` with `out_channels` channels.

    Raises:
        ValueError: If the arguments do not fit one another.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    noise, text = keras.ops.zeros((1, 8, 16, 16, 9)), keras.ops.zeros((1, 77, 768))
    inputs = {"sample": noise, "timesteps": keras.ops.array([500]), "context": text}
    unet(inputs).shape  # (1, 8, 16, 16, 4)
    ```
    """

    def __init__(
        self,
        in_channels: int = 9,
        out_channels: int = 4,
        block_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        num_heads: int | Sequence[int] = 8,
        context_dim: int = 768,
        attention_levels: Sequence[bool] = (True, True, True, False),
        gelu: str = "tanh",
        groups: int = 32,
        epsilon: float = 1e-5,
        transformer_epsilon: float = 1e-5,
        temporal: bool | str = True,
        motion_num_heads: int = 8,
        motion_positions: int = 32,
        motion_interpolation: bool = False,
        motion_mid_block: bool = False,
        motion_norm_over_frames: bool = False,
        residual_norm_over_frames: bool = False,
        dtype=None,
        **kwargs,
    ):
        dtype = network_policy(dtype)
        block_channels = tuple(block_channels)
        attention_levels = tuple(bool(level) for level in attention_levels)
        num_heads = num_heads if isinstance(num_heads, int) else tuple(num_heads)
        config: dict[str, Any] = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "block_channels": block_channels,
            "layers_per_block": layers_per_block,
            "num_heads": num_heads,
            "context_dim": context_dim,
            "attention_levels": attention_levels,
            "gelu": gelu,
            "groups": groups,
            "epsilon": epsilon,
            "transformer_epsilon": transformer_epsilon,
            # As presets have it that are older than motion modules.
            "temporal": True if temporal == PSEUDO_3D else temporal,
        }
        levels, one = len(block_channels), isinstance(num_heads, int)
        heads_of_levels = (num_heads,) * levels if one else num_heads
        has_modules = temporal == MOTION_MODULES
        modules = {
            "num_heads": motion_num_heads,
            "positions": motion_positions,
            "interpolate": motion_interpolation,
            "norm_over_frames": motion_norm_over_frames,
        }
        design = {
            **config,
            "num_heads": heads_of_levels,
            "temporal": config["temporal"] is True,
            "norm_per_frame": has_modules and not residual_norm_over_frames,
            "motion": modules if has_modules else None,
            "motion_mid_block": motion_mid_block,
        }
        if has_modules:
            config |= {
                "motion_num_heads": motion_num_heads,
                "motion_positions": motion_positions,
                "motion_interpolation": motion_interpolation,
                "motion_mid_block": motion_mid_block,
                "motion_norm_over_frames": motion_norm_over_frames,
                "residual_norm_over_frames": residual_norm_over_frames,
            }
        _check_config(config, heads_of_levels)

        network = UNet(UNetDesign(**design), dtype=dtype, name="unet")
        network.build()
        inputs = {
            "sample": keras.Input((None, None, None, in_channels), name="sample"),
            "timesteps": keras.Input((), dtype="int32", name="timesteps"),
            "context": keras.Input((None, context_dim), name="context"),
        }
        super().__init__(inputs=inputs, outputs=network(inputs), dtype=dtype, **kwargs)
        # Inputs reach the network as they are: it takes images too and text that
        # was projected before, checks shapes itself, and casts what may be cast.
        self.input_spec = None
        self.autocast = False
        self.network = network
        for key, value in config.items():
            setattr(self, key, value)

    def check_frames(self, frames: int) -> None:
        """Refuse videos of more frames than the motion modules have positions for."""
        if self.temporal == MOTION_MODULES:
            check_frames(frames, self.motion_positions, self.motion_interpolation)

    def call(
        self,
        inputs,
        spatial_only: bool = False,
        layers: int = 0,
        deep: Any = None,
        freeu: Any = None,
    ) -> Any:
        return self.network(
            inputs, spatial_only=spatial_only, layers=layers, deep=deep, freeu=freeu
        )

    def project_context(self, context) -> dict[str, Any]:
        """Compute the text's keys and values of every transformer.

        They are the same for every frame and every step: pass them as `context` then.
        Text states are `(B, L, context_dim)`; the result is a dict of lists of pairs
        `(B, L, heads, width / heads)`.
        """
        return self.network.project_context(context)

    def compute_output_shape(self, input_shape) -> Shape:
        return self.network.compute_output_shape(input_shape)

    def save_to_preset(self, preset_dir: str, max_shard_size=10) -> None:
        """Write a KerasHub preset folder, which names the task of this model."""
        super().save_to_preset(preset_dir, max_shard_size=max_shard_size)
        # KerasHub names the base class of a task, which here is `Task` itself.
        path = Path(preset_dir, "metadata.json")
        write_json(path, {**read_json(path), "tasks": [_TASK]}, indent=4)


def _check_config(config, heads_of_levels):
    channels, levels = config["block_channels"], config["attention_levels"]
    if not channels or len(levels) != len(channels):
        raise ValueError(
            "attention_levels must have one entry for each of block_channels. "
            f"Received: attention_levels={levels}, block_channels={channels}"
        )
    if len(heads_of_levels) != len(channels):
        raise ValueError(
            "num_heads must be one number or one for each of block_channels. "
            f"Received: num_heads={config['num_heads']}, block_channels={channels}"
        )
    if config["temporal"] not in (True, False, MOTION_MODULES):
        expected = f"temporal must be {PSEUDO_3D!r}, {MOTION_MODULES!r}, True or False"
        raise ValueError(f"{expected}. Received: {config['temporal']!r}")
    if any(width % config.get("motion_num_heads", 1) for width in channels):
        raise ValueError(
            "Each of block_channels must be a multiple of motion_num_heads. Received: "
            f"block_channels={channels}, motion_num_heads={config['motion_num_heads']}"
        )
    check_choice("gelu", config["gelu"], GELU_APPROXIMATIONS)
    for width, heads in zip(channels, heads_of_levels, strict=True):
        if width % config["groups"] or width % heads:
            raise ValueError(
                "Each of block_channels must be a multiple of groups and of "
                f"num_heads. Received: block_channels={channels}, "
                f"groups={config['groups']}, num_heads={config['num_heads']}"
            )
