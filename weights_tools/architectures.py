"""The kinds of models that weights belong to: their variables, and their arguments.

Those come from a configuration, or are read off names and shapes of tensors. Numbers of
heads, epsilons and the like leave no trace there: they are the layout's own.
"""

import functools
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_makeavid.models import AutoencoderKL, AutoencoderTiny, UNetPseudo3D
from keras_makeavid.models.loading import without_weights
from keras_makeavid.models.unet_pseudo3d import MOTION_MODULES
from keras_makeavid.text import TextEncoder
from weights_tools.configs import architecture, check_arguments, motion_version
from weights_tools.formats import TensorFile
from weights_tools.layouts import Layout

# The models of a pipeline, and what may stand beside one.
MODELS: dict[str, type[keras.Model]] = {
    **{"unet": UNetPseudo3D, "vae": AutoencoderKL, "text_encoder": TextEncoder},
}
KINDS = {**MODELS, "tiny_vae": AutoencoderTiny}

KERNEL_IN = "conv_in/spatial_conv/kernel"

# CLIP's text encoders have heads of 64.
_TEXT_HEAD_WIDTH = 64

# Names of the one layer that holds the whole model, first in each variable's path.
_NETWORKS = {
    **{"unet": "unet/", "vae": "autoencoder/", "text_encoder": ""},
    "tiny_vae": "tiny_autoencoder/",
}


def kind_of(model: keras.Model) -> str:
    """The kind of a model of ours, one of `KINDS`."""
    for kind, model_class in KINDS.items():
        if isinstance(model, model_class):
            return kind
    names = [model_class.__name__ for model_class in KINDS.values()]
    raise ValueError(f"model must be one of {names}. Received: {type(model).__name__}")


def variables_of(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables of a model by their path without the model's own name."""
    # KerasHub begins the names of layers with that of the model, where one was given.
    begins = _NETWORKS[kind_of(model)] or f"{model.name}_"
    return {v.path.removeprefix(begins): v for v in model.variables}


def complete(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a model with its defaults filled in, as JSON has them."""
    config = architecture(weightless_model(kind, arguments).get_config())
    unknown = sorted(arguments.keys() - config.keys())
    if unknown:
        expected = f"A {kind} has the arguments {sorted(config)}"
        raise ValueError(f"{expected}. Received: {unknown}")
    return json.loads(json.dumps(config))


def shapes_of(kind: str, arguments: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes by path of the variables that a model would have; no weight is made."""
    variables = variables_of(weightless_model(kind, arguments))
    return {path: tuple(variable.shape) for path, variable in variables.items()}


def weightless_model(kind: str, arguments: Mapping[str, Any]) -> keras.Model:
    """A model whose variables have no values, to be looked at; not to be changed."""
    check_arguments(kind, arguments)
    # Lists of a configuration are not hashable; its JSON is.
    return _model(kind, json.dumps(arguments, sort_keys=True))


# Making one of full size takes half a second: those of a pipeline are made once.
@functools.lru_cache(maxsize=8)
def _model(kind, arguments):
    try:
        return without_weights(lambda: KINDS[kind](**json.loads(arguments)))
    except TypeError as error:
        raise ValueError(f"Not arguments of a {kind}: {error}") from error


def infer_arguments(file: TensorFile, layout: Layout, root: str) -> dict[str, Any]:
    """Arguments of the model whose weights a file holds, the layout's defaults too."""
    if layout.kind not in _INFER:
        raise file.error(f"holds a {layout.kind}, and no config.json lies beside it")
    shapes = _Shapes(file, layout, root)
    return {**_INFER[layout.kind](shapes), **layout.defaults}


class _Shapes:
    """Shapes in a file by the path of our variable; `{}` in one is 0, 1, ..."""

    def __init__(self, file: TensorFile, layout: Layout, root: str):
        self._file, self._layout, self._root = file, layout, root

    def __contains__(self, path):
        return self._layout.tensor_name(path, self._root) in self._file.specs

    def size(self, path: str, back: int = 0) -> int:
        """Size of our last axis there, or of one some places before it."""
        name = self._layout.tensor_name(path, self._root)
        spec = self._file.specs.get(name)
        rank = len(spec.shape) if spec else 0
        if spec is None or rank <= back:
            layout = f"a {self._layout.kind} in layout {self._layout.name!r}"
            expected = f"must be there in {layout}, with {back + 1} axes or more"
            received = spec.shape if spec else "nothing"
            raise self._file.error(f"{expected}. Received: {received}", name)
        return spec.shape[self._layout.order(path, rank).index(rank - 1 - back)]

    def count(self, row: str) -> int:
        """How many of a row of paths there are, from 0 on."""
        return next(i for i in itertools.count() if row.format(i) not in self)

    def sizes(self, row: str) -> list[int]:
        """The size of each of a row of vectors."""
        return [self.size(row.format(i)) for i in range(self.count(row))]


def _motion(shapes: _Shapes) -> dict[str, Any]:
    """Arguments of the modules, and of a Stable Diffusion 1.x around them."""
    channels = shapes.sizes("down_blocks_{}/temporal_modules_0/norm/gamma")
    positions = "down_blocks_0/temporal_modules_0/positions1/embeddings"
    modules = {
        "temporal": MOTION_MODULES,
        "motion_positions": shapes.size(positions, 1),
        "motion_mid_block": "mid_block/temporal_modules_0/norm/gamma" in shapes,
    }
    return {
        "in_channels": 4,
        "block_channels": channels,
        "layers_per_block": shapes.count(
            "down_blocks_0/temporal_modules_{}/norm/gamma"
        ),
        "attention_levels": [True] * (len(channels) - 1) + [False],
        **modules,
        "residual_norm_over_frames": motion_version(modules) == "v1",
    }


def _unet(shapes: _Shapes) -> dict[str, Any]:
    has_modules = "down_blocks_0/temporal_modules_0/norm/gamma" in shapes
    motion = _motion(shapes) if has_modules else {}
    if KERNEL_IN not in shapes:
        return motion
    channels = shapes.sizes("down_blocks_{}/resnets_0/conv2/spatial_conv/bias")
    context = "mid_block/attentions_0/transformer_block/attn2/to_k/kernel"
    return {
        **motion,
        "in_channels": shapes.size(KERNEL_IN, 1),
        "out_channels": shapes.size("conv_out/spatial_conv/bias"),
        "block_channels": channels,
        "layers_per_block": shapes.count("down_blocks_0/resnets_{}/norm1/gamma"),
        "attention_levels": [
            f"down_blocks_{i}/attentions_0/norm/gamma" in shapes
            for i in range(len(channels))
        ],
        "context_dim": shapes.size(context, 1),
    }


def _vae(shapes: _Shapes) -> dict[str, Any]:
    first_level = "encoder/down_blocks_0/resnets_{}/norm1/gamma"
    return {
        "in_channels": shapes.size("encoder/conv_in/kernel", 1),
        "latent_channels": shapes.size("post_quant_conv/kernel", 1),
        "block_channels": shapes.sizes("encoder/down_blocks_{}/resnets_0/conv2/bias"),
        "layers_per_block": shapes.count(first_level),
    }


def _text_encoder(shapes: _Shapes) -> dict[str, Any]:
    width = shapes.size("embedding/token_embedding/embeddings")
    return {
        "vocabulary_size": shapes.size("embedding/token_embedding/embeddings", 1),
        "embedding_dim": width,
        "hidden_dim": width,
        "num_layers": shapes.count("encoder_block_{}/layer_norm_1/gamma"),
        "num_heads": max(1, width // _TEXT_HEAD_WIDTH),
        "intermediate_dim": shapes.size("encoder_block_0/dense_1/bias"),
        "intermediate_activation": "quick_gelu",
        "max_sequence_length": shapes.size(
            "embedding/position_embedding/embeddings", 1
        ),
    }


_INFER: Mapping[str, Callable[[_Shapes], dict[str, Any]]] = {
    "unet": _unet,
    "vae": _vae,
    "text_encoder": _text_encoder,
}
