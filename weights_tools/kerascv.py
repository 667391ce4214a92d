"""KerasCV's Stable Diffusion, which is frozen: four classes, each of one size.

Its variables have automatic names that depend on what was made before. Weights are
named by their place in the model instead, `layers/res_block_3/...`, as in a
`.weights.h5` of Keras 3; older files and live models have them in the same order.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import keras
import numpy as np

from keras_makeavid.schedulers import NoiseSchedule
from weights_tools.architectures import KERNEL_IN, MODELS, infer_arguments
from weights_tools.checkpoint import (
    Checkpoint,
    Component,
    component_from_file,
    tensors_of_model,
)
from weights_tools.formats import TensorFile, reading
from weights_tools.formats.hdf5_format import Hdf5Tensors
from weights_tools.layouts import CONVOLVED_ATTENTION, HEADS, KERAS_LEAVES, Layout

# Where our path begins, and the class of KerasCV's layer there.
_Layers = tuple[tuple[str, str], ...]


def _row(ours: str, layer: str, count: int) -> _Layers:
    return tuple((f"{ours}_{i}", layer) for i in range(count))


def _pairs(level: str, layers: int) -> _Layers:
    """The residual blocks of a level, each with the transformer that follows it."""
    blocks = _row(f"{level}/resnets", "res_block", layers)
    transformers = _row(f"{level}/attentions", "spatial_transformer", layers)
    return tuple(x for pair in zip(blocks, transformers, strict=True) for x in pair)


# Layers that have weights, in the order that KerasCV's models have them.
_UNET: _Layers = (
    ("time_embedding/linear_1", "dense"),
    ("conv_in", "padded_conv2d"),
    ("time_embedding/linear_2", "dense"),
    *_pairs("down_blocks_0", 2),
    ("down_blocks_0/downsamplers_0/conv", "padded_conv2d"),
    *_pairs("down_blocks_1", 2),
    ("down_blocks_1/downsamplers_0/conv", "padded_conv2d"),
    *_pairs("down_blocks_2", 2),
    ("down_blocks_2/downsamplers_0/conv", "padded_conv2d"),
    *_row("down_blocks_3/resnets", "res_block", 2),
    ("mid_block/resnets_0", "res_block"),
    ("mid_block/attentions_0", "spatial_transformer"),
    ("mid_block/resnets_1", "res_block"),
    *_row("up_blocks_0/resnets", "res_block", 3),
    ("up_blocks_0/upsamplers_0", "upsample"),
    *_pairs("up_blocks_1", 3),
    ("up_blocks_1/upsamplers_0", "upsample"),
    *_pairs("up_blocks_2", 3),
    ("up_blocks_2/upsamplers_0", "upsample"),
    *_pairs("up_blocks_3", 3),
    ("conv_norm_out", "group_normalization"),
    ("conv_out", "padded_conv2d"),
)


def _levels(name: str, layers: int, sampler: str) -> _Layers:
    """The levels of half an autoencoder."""
    found: _Layers = ()
    for level in range(4):
        found += _row(f"{name}_{level}/resnets", "resnet_block", layers)
        found += ((f"{name}_{level}/{sampler}", "padded_conv2d"),)
    # The last one has no sampler.
    return found[:-1]


def _middle(name: str) -> _Layers:
    return (
        (f"{name}/mid_block/resnets_0", "resnet_block"),
        (f"{name}/mid_block/attention", "attention_block"),
        (f"{name}/mid_block/resnets_1", "resnet_block"),
    )


_IMAGE_ENCODER: _Layers = (
    ("encoder/conv_in", "padded_conv2d"),
    *_levels("encoder/down_blocks", 2, "downsamplers_0"),
    *_middle("encoder"),
    ("encoder/conv_norm_out", "group_normalization"),
    ("encoder/conv_out", "padded_conv2d"),
    ("quant_conv", "padded_conv2d"),
)

_DECODER: _Layers = (
    ("post_quant_conv", "padded_conv2d"),
    ("decoder/conv_in", "padded_conv2d"),
    *_middle("decoder"),
    *_levels("decoder/up_blocks", 3, "upsamplers_0/conv"),
    ("decoder/conv_norm_out", "group_normalization"),
    ("decoder/conv_out", "padded_conv2d"),
)

_TEXT_ENCODER: _Layers = (
    ("embedding", "clip_embedding"),
    *_row("encoder_block", "clip_encoder_layer", 12),
    ("layer_norm", "layer_normalization"),
)


def _attention(name: str) -> _Layers:
    queries = tuple((f"{name}/to_{x}", f"{name}/to_{x}") for x in "qkv")
    return (*queries, (f"{name}/to_out", f"{name}/out_proj"))


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
        *(
            (f"transformer_block/{ours}/", f"transformer_block/{theirs}/")
            for ours, theirs in (
                ("norm1", "norm1"),
                *_attention("attn1"),
                ("norm2", "norm2"),
                *_attention("attn2"),
                ("norm3", "norm3"),
            )
        ),
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
        *((f"to_{x}/", f"{x}/conv2d/") for x in "qkv"),
        ("to_out/", "proj_out/conv2d/"),
    ),
    "clip_embedding": tuple((f"{x}_embedding/",) * 2 for x in ("token", "position")),
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


def _layout(kind: str, layers: _Layers, **further: Any) -> Layout:
    renames = (
        (r"spatial_conv/", ""),
        *((f"^{ours}", place) for ours, place, _ in _places(layers)),
        *(
            (rf"^(layers/{layer}(?:_\d+)?/){ours}", rf"\1{theirs}")
            for layer in dict.fromkeys(layer for _, layer in layers)
            for ours, theirs in _INSIDE[layer]
        ),
        *KERAS_LEAVES,
    )
    return Layout("kerascv", kind, "hdf5", renames, **further)


UNET = _layout(
    "unet",
    _UNET,
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

# The autoencoder is two classes, of which each file has one.
DECODER = _layout(
    "vae",
    _DECODER,
    groups=CONVOLVED_ATTENTION,
    marker="decoder/up_blocks_2/resnets_0/conv_shortcut/kernel",
    absent=r"^(encoder|quant_conv)/",
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

IMAGE_ENCODER = _layout(
    "vae",
    _IMAGE_ENCODER,
    groups=CONVOLVED_ATTENTION,
    marker="encoder/down_blocks_2/resnets_0/conv_shortcut/kernel",
    absent=r"^(decoder|post_quant_conv)/",
    defaults=DECODER.defaults,
)

TEXT_ENCODER = _layout(
    "text_encoder",
    _TEXT_ENCODER,
    groups=HEADS,
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

KERASCV_LAYOUTS = (UNET, DECODER, IMAGE_ENCODER, TEXT_ENCODER)


@dataclass(frozen=True)
class KerasCVClass:
    """One of KerasCV's classes, its weights, and the file of them on the hub."""

    name: str
    layout: Layout
    layers: _Layers
    published: str

    @property
    def file(self) -> str:
        """Name of the file of its weights that we write."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower() + ".weights.h5"

    def weight_names(self) -> list[list[str]]:
        """Names of the weights of each layer, in its order; some are not in all."""
        return [
            [
                f"{place}{theirs}vars/{number}"
                for _, theirs in _INSIDE[layer]
                for number in range(1 if _WITHOUT_BIAS.search(theirs) else 2)
            ]
            for _, place, layer in _places(self.layers)
        ]


KERASCV_CLASSES = (
    KerasCVClass("DiffusionModel", UNET, _UNET, "kcv_diffusion_model.h5"),
    KerasCVClass("Decoder", DECODER, _DECODER, "kcv_decoder.h5"),
    KerasCVClass("ImageEncoder", IMAGE_ENCODER, _IMAGE_ENCODER, "vae_encoder.h5"),
    KerasCVClass("TextEncoder", TEXT_ENCODER, _TEXT_ENCODER, "kcv_encoder.h5"),
)

# The layout of each kind of model, whichever half of an autoencoder it has.
KERASCV_KINDS = {
    "unet": UNET,
    "vae": replace(DECODER, absent=None),
    "text_encoder": TEXT_ENCODER,
}

# What KerasCV's classes compute in their own way, whatever the weights were made for.
_OWN_WAY = {"gelu", "epsilon", "transformer_epsilon", "layer_norm_epsilon"}


def is_kerascv_model(model: keras.Model) -> bool:
    """Whether a live model is KerasCV's, which is not imported for that."""
    return any(c.__module__.startswith("keras_cv.") for c in type(model).__mro__)


def is_kerascv_file(file: TensorFile) -> bool:
    """Whether a file is one of KerasCV's: by its names, or by its age."""
    return _is_old(file) or bool(_classes_in(file))


def files_in(folder: Path) -> list[Path]:
    """The files in a folder, such as Keras's cache, of KerasCV or of ours."""
    names = [name for c in KERASCV_CLASSES for name in (c.published, c.file)]
    return [folder / name for name in names if (folder / name).is_file()]


def open_models(models: Sequence[keras.Model]) -> Checkpoint:
    """View live models of KerasCV, at most one of each class, as a checkpoint."""
    found = [(class_of(m), tensors_of_model(m, named_variables(m))) for m in models]
    return _checkpoint(found, {})


def open_files(files: Sequence[TensorFile], overrides: Mapping[str, Any]) -> Checkpoint:
    """View files of KerasCV's classes as one checkpoint."""
    return _checkpoint([_recognised(file) for file in files], overrides)


def class_of(model: keras.Model) -> KerasCVClass:
    """Which of KerasCV's classes a live model is of; `ValueError` if of none."""
    names = [c.__name__ for c in type(model).__mro__] if is_kerascv_model(model) else []
    for known in KERASCV_CLASSES:
        if known.name in names:
            return known
    raise ValueError(
        f"model must be one of KerasCV's {[c.name for c in KERASCV_CLASSES]}, those of "
        f"Stable Diffusion 1.x. Received: {type(model).__name__}"
    )


def named_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Variables of a live model of KerasCV by their names in its layout."""
    layers = [layer.weights for layer in model.layers if layer.weights]
    names = _named(class_of(model), [len(weights) for weights in layers])
    variables = [variable for weights in layers for variable in weights]
    return dict(zip(names, variables, strict=True))


def _named(known: KerasCVClass, counts: Sequence[int]) -> list[str]:
    """Names of all weights, of layers that have so many weights each."""
    expected = known.weight_names()
    if len(counts) != len(expected):
        wanted = f"KerasCV's {known.name} has {len(expected)} layers with weights"
        raise ValueError(f"{wanted}. Received: {len(counts)}")
    for names, count in zip(expected, counts, strict=True):
        if count > len(names):
            raise ValueError(
                f"A layer of KerasCV's {known.name} has at most {len(names)} weights, "
                f"{names[0]} and so on. Received: {count}"
            )
    return [n for names, m in zip(expected, counts, strict=True) for n in names[:m]]


def _classes_in(file: TensorFile) -> list[KerasCVClass]:
    return [
        known
        for known in KERASCV_CLASSES
        if known.layout.tensor_name(known.layout.marker) in file.specs
    ]


def _recognised(file: TensorFile) -> tuple[KerasCVClass, TensorFile]:
    """The class that a file is of, and the file with the names of its layout."""
    if _is_old(file):
        return _in_order(file)
    found = _classes_in(file)
    if len(found) != 1:
        raise file.error(
            f"must have the weights of one of {[c.name for c in KERASCV_CLASSES]}. "
            f"Received: {len(file.specs)} tensors such as {list(file.specs)[:5]}"
        )
    return found[0], file


def _is_old(file: TensorFile) -> TypeGuard[Hdf5Tensors]:
    """Whether a file is one of Keras's from before version 3."""
    told = {"keras_version", "backend"} <= file.metadata.keys()
    return told and isinstance(file, Hdf5Tensors)


def _in_order(file: Hdf5Tensors) -> tuple[KerasCVClass, TensorFile]:
    """Name the tensors of a file in which only their order tells what they are."""
    layers = _layers_in(file)
    numbers = {len(known.layers): known for known in KERASCV_CLASSES}
    if len(layers) not in numbers:
        listed = ", ".join(f"{known.name} {n}" for n, known in numbers.items())
        raise file.error(
            f"has {len(layers)} layers with weights, and no class of KerasCV's Stable "
            f"Diffusion 1.x has so many: {listed}"
        )
    known = numbers[len(layers)]
    tensors = [name for names in layers for name in names]
    with reading(file.path, reason="names a tensor that is not there"):
        names = _named(known, [len(names) for names in layers])
        return known, file.renamed(dict(zip(names, tensors, strict=True)))


def _layers_in(file: Hdf5Tensors) -> list[list[str]]:
    """Names of the tensors of each layer with weights, in the order that is told."""
    layers = _listed(file, "", "layer_names")
    tensors = [[f"{x}/{n}" for n in _listed(file, x, "weight_names")] for x in layers]
    return list(filter(None, tensors))


def _listed(file: Hdf5Tensors, group: str, attribute: str) -> list[str]:
    names = file.texts(group).get(attribute)
    return names if isinstance(names, list) else []


def _checkpoint(
    found: Sequence[tuple[KerasCVClass, TensorFile]], overrides: Mapping[str, Any]
) -> Checkpoint:
    components: dict[str, Component] = {}
    for known, file in found:
        if known.name in components:
            problem = f"is a second {known.name}"
            raise file.error(f"{problem}, beside {components[known.name].path}")
        layout = known.layout
        # Half of an autoencoder does not tell the architecture: there is but one.
        is_half = layout.kind == "vae"
        arguments = layout.defaults if is_half else infer_arguments(file, layout, "")
        component = component_from_file(file, layout, "", arguments, overrides)
        components[known.name] = component
    halves = [components.pop(n) for n in ("Decoder", "ImageEncoder") if n in components]
    if halves:
        components["vae"] = _joined(halves) if len(halves) == 2 else halves[0]
    checkpoint = Checkpoint({c.kind: c for c in components.values()})
    if checkpoint.components.keys() == MODELS.keys():
        # KerasCV's pipeline has everything but the vocabulary, which is CLIP's.
        checkpoint.schedule = NoiseSchedule()
    return checkpoint


def _joined(halves: Sequence[Component]) -> Component:
    held = {path: half.weights for half in halves for path in half.weights.specs}
    specs = {path: weights.specs[path] for path, weights in held.items()}
    names = " and ".join(half.path.name for half in halves)
    weights = TensorFile(
        halves[0].path.with_name(names), specs, lambda path: held[path].read(path)
    )
    return replace(halves[0], weights=weights)


def files_of(
    components: Mapping[str, Component],
) -> dict[str, tuple[Component, Layout]]:
    """The model and the layout of each file, of models that `fitted` gave."""
    return {
        known.file: (component, known.layout)
        for known in KERASCV_CLASSES
        for component in components.values()
        # Of an autoencoder there may be one half only.
        if component.kind == known.layout.kind
        and any(known.layout.holds(path) for path in component.weights.specs)
    }


def fitted(component: Component) -> Component:
    """Make a model one whose weights KerasCV's class, which has one size, holds.

    A UNet loses channels that it does not look at. Epsilons and GELU may differ still.
    """
    if component.kind == "unet":
        component = _of_latents_alone(component)
    layout = KERASCV_KINDS[component.kind]
    differing = {
        key: component.arguments[key]
        for key, only in layout.defaults.items()
        if component.arguments[key] != only and key not in _OWN_WAY
    }
    if differing:
        raise ValueError(
            f"{component.path} is no {layout.kind} that KerasCV has: it has only "
            f"{ {key: layout.defaults[key] for key in differing} }. "
            f"Received: {differing}"
        )
    return replace(component, layout=layout.name)


def _of_latents_alone(unet: Component) -> Component:
    """The UNet without channels of mask and hint, if it does not look at them."""
    latent = unet.arguments["out_channels"]
    if unet.arguments["in_channels"] == latent:
        return unet
    if np.any(unet.weights.read(KERNEL_IN)[:, :, latent:]):
        problem = f"{unet.path} is an inpainting model, which looks at mask and hint"
        raise ValueError(f"{problem}: a model of {latent} channels cannot hold it")
    return unet.with_channels(latent)
