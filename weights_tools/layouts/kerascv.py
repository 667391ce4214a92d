"""Layouts of KerasCV's Stable Diffusion: four classes, each of one size.

KerasCV's variables have automatic names that depend on what was made before. Weights
have their place in the model as a name instead, `layers/res_block_3/...`, as in a
`.weights.h5` of Keras 3. The same table gives the order in which live models and `.h5`
files from before Keras 3, such as the published ones, have them.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from weights_tools.layouts.layout import KERAS_LEAVES, Layout

# Where our path begins, and the class of KerasCV's layer there.
_Layers = tuple[tuple[str, str], ...]


def _row(ours: str, layer: str, count: int) -> _Layers:
    return tuple((f"{ours}_{i}", layer) for i in range(count))


def _pairs(level: str) -> _Layers:
    """The residual blocks of a level, each with the transformer that follows it."""
    layers = 2 if level.startswith("down") else 3
    blocks = _row(f"{level}/resnets", "res_block", layers)
    transformers = _row(f"{level}/attentions", "spatial_transformer", layers)
    return tuple(x for pair in zip(blocks, transformers, strict=True) for x in pair)


# Layers that have weights, in the order that KerasCV's models have them.
_UNET: _Layers = (
    ("time_embedding/linear_1", "dense"),
    ("conv_in", "padded_conv2d"),
    ("time_embedding/linear_2", "dense"),
    *(
        layer
        for level in range(3)
        for layer in (
            *_pairs(f"down_blocks_{level}"),
            (f"down_blocks_{level}/downsamplers_0/conv", "padded_conv2d"),
        )
    ),
    *_row("down_blocks_3/resnets", "res_block", 2),
    ("mid_block/resnets_0", "res_block"),
    ("mid_block/attentions_0", "spatial_transformer"),
    ("mid_block/resnets_1", "res_block"),
    *_row("up_blocks_0/resnets", "res_block", 3),
    ("up_blocks_0/upsamplers_0", "upsample"),
    *_pairs("up_blocks_1"),
    ("up_blocks_1/upsamplers_0", "upsample"),
    *_pairs("up_blocks_2"),
    ("up_blocks_2/upsamplers_0", "upsample"),
    *_pairs("up_blocks_3"),
    ("conv_norm_out", "group_normalization"),
    ("conv_out", "padded_conv2d"),
)

_IMAGE_ENCODER: _Layers = (
    ("encoder/conv_in", "padded_conv2d"),
    *(
        layer
        for level in range(3)
        for layer in (
            *_row(f"encoder/down_blocks_{level}/resnets", "resnet_block", 2),
            (f"encoder/down_blocks_{level}/downsamplers_0", "padded_conv2d"),
        )
    ),
    *_row("encoder/down_blocks_3/resnets", "resnet_block", 2),
    ("encoder/mid_block/resnets_0", "resnet_block"),
    ("encoder/mid_block/attention", "attention_block"),
    ("encoder/mid_block/resnets_1", "resnet_block"),
    ("encoder/conv_norm_out", "group_normalization"),
    ("encoder/conv_out", "padded_conv2d"),
    ("quant_conv", "padded_conv2d"),
)

_DECODER: _Layers = (
    ("post_quant_conv", "padded_conv2d"),
    ("decoder/conv_in", "padded_conv2d"),
    ("decoder/mid_block/resnets_0", "resnet_block"),
    ("decoder/mid_block/attention", "attention_block"),
    ("decoder/mid_block/resnets_1", "resnet_block"),
    *(
        layer
        for level in range(3)
        for layer in (
            *_row(f"decoder/up_blocks_{level}/resnets", "resnet_block", 3),
            (f"decoder/up_blocks_{level}/upsamplers_0/conv", "padded_conv2d"),
        )
    ),
    *_row("decoder/up_blocks_3/resnets", "resnet_block", 3),
    ("decoder/conv_norm_out", "group_normalization"),
    ("decoder/conv_out", "padded_conv2d"),
)

_TEXT_ENCODER: _Layers = (
    ("embedding", "clip_embedding"),
    *_row("encoder_block", "clip_encoder_layer", 12),
    ("layer_norm", "layer_normalization"),
)

# What is inside a layer of each class, in the order in which it was made: where our
# path goes on, and KerasCV's. A residual block has the last only if its width changes.
_INSIDE: dict[str, tuple[tuple[str, str], ...]] = {
    "dense": (("", ""),),
    "group_normalization": (("", ""),),
    "layer_normalization": (("", ""),),
    "padded_conv2d": (("", "conv2d/"),),
    "upsample": (("conv/", "conv/conv2d/"),),
    "res_block": (
        ("norm1/", "entry_flow/group_normalization/"),
        ("conv1/", "entry_flow/padded_conv2d/conv2d/"),
        ("time_emb_proj/", "embedding_flow/dense/"),
        ("norm2/", "exit_flow/group_normalization/"),
        ("conv2/", "exit_flow/padded_conv2d/conv2d/"),
        ("conv_shortcut/", "residual_projection/conv2d/"),
    ),
    "spatial_transformer": (
        ("norm/", "norm/"),
        ("proj_in/", "proj1/conv2d/"),
        ("transformer_block/norm1/", "transformer_block/norm1/"),
        ("transformer_block/attn1/to_q/", "transformer_block/attn1/to_q/"),
        ("transformer_block/attn1/to_k/", "transformer_block/attn1/to_k/"),
        ("transformer_block/attn1/to_v/", "transformer_block/attn1/to_v/"),
        ("transformer_block/attn1/to_out/", "transformer_block/attn1/out_proj/"),
        ("transformer_block/norm2/", "transformer_block/norm2/"),
        ("transformer_block/attn2/to_q/", "transformer_block/attn2/to_q/"),
        ("transformer_block/attn2/to_k/", "transformer_block/attn2/to_k/"),
        ("transformer_block/attn2/to_v/", "transformer_block/attn2/to_v/"),
        ("transformer_block/attn2/to_out/", "transformer_block/attn2/out_proj/"),
        ("transformer_block/norm3/", "transformer_block/norm3/"),
        ("transformer_block/ff/proj_in/", "transformer_block/geglu/dense/"),
        ("transformer_block/ff/proj_out/", "transformer_block/dense/"),
        ("proj_out/", "proj2/conv2d/"),
    ),
    "resnet_block": (
        ("norm1/", "norm1/"),
        ("conv1/", "conv1/conv2d/"),
        ("norm2/", "norm2/"),
        ("conv2/", "conv2/conv2d/"),
        ("conv_shortcut/", "residual_projection/conv2d/"),
    ),
    "attention_block": (
        ("group_norm/", "norm/"),
        ("to_q/", "q/conv2d/"),
        ("to_k/", "k/conv2d/"),
        ("to_v/", "v/conv2d/"),
        ("to_out/", "proj_out/conv2d/"),
    ),
    "clip_embedding": (
        ("token_embedding/", "token_embedding/"),
        ("position_embedding/", "position_embedding/"),
    ),
    "clip_encoder_layer": (
        ("layer_norm_1/", "layer_norm1/"),
        ("attention/query/", "clip_attn/q_proj/"),
        ("attention/key/", "clip_attn/k_proj/"),
        ("attention/value/", "clip_attn/v_proj/"),
        ("attention/attention_output/", "clip_attn/out_proj/"),
        ("layer_norm_2/", "layer_norm2/"),
        ("dense_1/", "fc1/"),
        ("dense_2/", "fc2/"),
    ),
}

# Layers with a single weight; all others have two.
_WITHOUT_BIAS = re.compile(r"(to_[qkv]|_embedding)/$")


def _places(layers: _Layers) -> list[tuple[str, str, str]]:
    """For each layer where our path begins, where KerasCV's does, and its class."""
    made: Counter[str] = Counter()
    places = []
    for ours, layer in layers:
        number = f"_{made[layer]}" if made[layer] else ""
        made[layer] += 1
        places.append((f"{ours}/", f"layers/{layer}{number}/", layer))
    return places


def _renames(layers: _Layers, half: str = "") -> tuple[tuple[str, str], ...]:
    """The table as substitutions; `half` stands before KerasCV's names."""
    return (
        *((f"^{ours}", half + place) for ours, place, _ in _places(layers)),
        *(
            (rf"^({half}layers/{layer}(?:_\d+)?/){ours}", rf"\1{theirs}")
            for layer in dict.fromkeys(layer for _, layer in layers)
            for ours, theirs in _INSIDE[layer]
        ),
    )


UNET = Layout(
    name="kerascv",
    kind="unet",
    container="hdf5",
    renames=((r"spatial_conv/", ""), *_renames(_UNET), *KERAS_LEAVES),
    marker="mid_block/attentions_0/norm/gamma",
    absent=r"temporal",
    defaults={
        "in_channels": 4,
        "out_channels": 4,
        "block_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "num_heads": 8,
        "context_dim": 768,
        "attention_levels": [True, True, True, False],
        "gelu": "tanh",
        "groups": 32,
        "epsilon": 1e-5,
        "transformer_epsilon": 1e-5,
    },
)

_ENCODER_HALF, _DECODER_HALF = "image_encoder/", "decoder/"

# The autoencoder is two classes: here their names begin with the class.
VAE = Layout(
    name="kerascv",
    kind="vae",
    container="hdf5",
    renames=(
        *_renames(_IMAGE_ENCODER, _ENCODER_HALF),
        *_renames(_DECODER, _DECODER_HALF),
        *KERAS_LEAVES,
    ),
    # The attention's projections are convolutions there, of kernel 1.
    groups=((r"attention/to_(q|k|v|out)/kernel$", (0, 0, 1, 1)),),
    marker="decoder/up_blocks_2/resnets_0/conv_shortcut/kernel",
    defaults={
        "in_channels": 3,
        "latent_channels": 4,
        "block_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "groups": 32,
        "epsilon": 1e-5,
        "scaling_factor": 0.18215,
    },
)

TEXT_ENCODER = Layout(
    name="kerascv",
    kind="text_encoder",
    container="hdf5",
    renames=(*_renames(_TEXT_ENCODER), *KERAS_LEAVES),
    # KerasHub keeps the heads as an axis of their own.
    groups=(
        (r"(query|key|value)/kernel$", (1, 2)),
        (r"attention_output/kernel$", (2, 1)),
        (r"(query|key|value)/bias$", (2,)),
    ),
    marker="embedding/token_embedding/embeddings",
    defaults={
        "embedding_dim": 768,
        "hidden_dim": 768,
        "num_layers": 12,
        "num_heads": 12,
        "intermediate_dim": 3072,
        "intermediate_activation": "quick_gelu",
        "layer_norm_epsilon": 1e-5,
    },
)

KERASCV_LAYOUTS = (UNET, VAE, TEXT_ENCODER)


@dataclass(frozen=True)
class KerasCVClass:
    """One of KerasCV's classes, and the file that its weights are in.

    Args:
        name: name of the class.
        layout: names of its weights.
        layers: its layers that have weights, in its order.
        file: name of the file of its weights that we write.
        published: name of the file of its weights on the hub.
    """

    name: str
    layout: Layout
    layers: _Layers
    file: str
    published: str

    def weight_names(self) -> list[list[str]]:
        """Names of the weights of each layer, in its order.

        A residual block's last two weights are those of its shortcut, which not all
        such blocks have.
        """
        return [
            [
                f"{place}{theirs}vars/{number}"
                for _, theirs in _INSIDE[layer]
                for number in range(1 if _WITHOUT_BIAS.search(theirs) else 2)
            ]
            for _, place, layer in _places(self.layers)
        ]


def _half(prefix: str, marker: str, absent: str) -> Layout:
    """The layout of one of the two classes of the autoencoder, as its file has it."""
    renames = (*VAE.renames, (f"^{prefix}", ""))
    return replace(VAE, renames=renames, marker=marker, absent=absent)


KERASCV_CLASSES = (
    KerasCVClass(
        "DiffusionModel",
        UNET,
        _UNET,
        "diffusion_model.weights.h5",
        "kcv_diffusion_model.h5",
    ),
    KerasCVClass(
        "Decoder",
        _half(_DECODER_HALF, VAE.marker, r"^(encoder|quant_conv)/"),
        _DECODER,
        "decoder.weights.h5",
        "kcv_decoder.h5",
    ),
    KerasCVClass(
        "ImageEncoder",
        _half(
            _ENCODER_HALF,
            "encoder/down_blocks_2/resnets_0/conv_shortcut/kernel",
            r"^(decoder|post_quant_conv)/",
        ),
        _IMAGE_ENCODER,
        "image_encoder.weights.h5",
        "vae_encoder.h5",
    ),
    KerasCVClass(
        "TextEncoder",
        TEXT_ENCODER,
        _TEXT_ENCODER,
        "text_encoder.weights.h5",
        "kcv_encoder.h5",
    ),
)
