"""Read an architecture off the names and shapes of its tensors.

For files that come without a configuration, such as Stable Diffusion's `.ckpt`.
Numbers of heads, epsilons and the like leave no trace in the tensors: they are the
layout's or the family's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from weights_tools.formats import FormatError, TensorFile
from weights_tools.layouts import Layout

# CLIP's text encoders have heads of 64.
_TEXT_HEAD_WIDTH = 64


class _Shapes:
    """Shapes in a file by the path of our variable."""

    def __init__(self, file: TensorFile, layout: Layout, root: str):
        self._file, self._layout, self._root = file, layout, root

    def __contains__(self, path):
        return self._layout.tensor_name(path, self._root) in self._file.specs

    def sizes(self, path: str, least: int) -> tuple[int, ...]:
        """Sizes there of our axes, `least` or more, from the last one on."""
        name = self._layout.tensor_name(path, self._root)
        spec = self._file.specs.get(name)
        if spec is None:
            raise FormatError(
                self._file.path,
                f"must be there in a {self._layout.kind} in layout "
                f"{self._layout.name!r}",
                tensor=name,
            )
        if len(spec.shape) < least:
            raise FormatError(
                self._file.path,
                f"must have {least} axes or more. Received: shape {spec.shape}",
                tensor=name,
            )
        order = self._layout.order(path, len(spec.shape))
        return tuple(spec.shape[order.index(axis)] for axis in range(len(order)))[::-1]

    def count(self, path: Callable[[int], str]) -> int:
        """How many of a row of paths there are, from 0 on."""
        return next(i for i in itertools.count() if path(i) not in self)


def infer_arguments(file: TensorFile, layout: Layout, root: str) -> dict[str, Any]:
    """Arguments of the model whose weights a file holds.

    Args:
        file: the open file.
        layout: the layout of the model in it.
        root: what stands before every name.

    Returns:
        Arguments of our class, the layout's defaults among them.

    Raises:
        ValueError: if the tensors are not such a model's.
    """
    shapes = _Shapes(file, layout, root)
    return {**_INFER[layout.kind](shapes), **layout.defaults}


def _unet(shapes: _Shapes) -> dict[str, Any]:
    def first_norm(level, name="resnets_0/norm1"):
        return f"down_blocks_{level}/{name}/gamma"

    levels = shapes.count(first_norm)
    attention = [first_norm(i, "attentions_0/norm") in shapes for i in range(levels)]
    context = shapes.sizes(
        "mid_block/attentions_0/transformer_block/attn2/to_k/kernel", 2
    )
    kernel_in = shapes.sizes("conv_in/spatial_conv/kernel", 2)
    return {
        "in_channels": kernel_in[1],
        "out_channels": shapes.sizes("conv_out/spatial_conv/bias", 1)[0],
        "block_channels": [
            shapes.sizes(f"down_blocks_{i}/resnets_0/conv2/spatial_conv/bias", 1)[0]
            for i in range(levels)
        ],
        "layers_per_block": shapes.count(
            lambda i: f"down_blocks_0/resnets_{i}/norm1/gamma"
        ),
        "attention_levels": attention,
        "context_dim": context[1],
    }


def _vae(shapes: _Shapes) -> dict[str, Any]:
    levels = shapes.count(lambda i: f"encoder/down_blocks_{i}/resnets_0/norm1/gamma")
    return {
        "in_channels": shapes.sizes("encoder/conv_in/kernel", 2)[1],
        "latent_channels": shapes.sizes("post_quant_conv/kernel", 2)[1],
        "block_channels": [
            shapes.sizes(f"encoder/down_blocks_{i}/resnets_0/conv2/bias", 1)[0]
            for i in range(levels)
        ],
        "layers_per_block": shapes.count(
            lambda i: f"encoder/down_blocks_0/resnets_{i}/norm1/gamma"
        ),
    }


def _text_encoder(shapes: _Shapes) -> dict[str, Any]:
    width, vocabulary = shapes.sizes("embedding/token_embedding/embeddings", 2)[:2]
    length = shapes.sizes("embedding/position_embedding/embeddings", 2)[1]
    return {
        "vocabulary_size": vocabulary,
        "embedding_dim": width,
        "hidden_dim": width,
        "num_layers": shapes.count(lambda i: f"encoder_block_{i}/layer_norm_1/gamma"),
        "num_heads": max(1, width // _TEXT_HEAD_WIDTH),
        "intermediate_dim": shapes.sizes("encoder_block_0/dense_1/bias", 1)[0],
        "intermediate_activation": "quick_gelu",
        "max_sequence_length": length,
    }


_INFER: Mapping[str, Callable[[_Shapes], dict[str, Any]]] = {
    "unet": _unet,
    "vae": _vae,
    "text_encoder": _text_encoder,
}
