"""How each published layout names and orders the weights of our models.

A layout is data: an ordered list of substitutions that turn the path of one of
our variables into the tensor's name there, and the axis order of each kind of
kernel. Loading and saving both follow from applying it to the variables of a
model, so the two directions cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layout:
    """Names and axis orders of one checkpoint layout.

    Args:
        name: name of the layout, as `load_weights` takes it.
        renames: `(pattern, replacement)` pairs, applied in order by `re.sub` to a
            variable's path without the model's own name.
        absent: pattern of paths that the layout does not hold.
        axes: for each pattern of a path, the order in which our axes stand there.
    """

    name: str
    renames: Sequence[tuple[str, str]]
    axes: Sequence[tuple[str, tuple[int, ...]]]
    absent: str | None = None

    def tensor_name(self, path: str) -> str | None:
        """Name there of the variable at `path`, `None` if the layout lacks it."""
        if self.absent is not None and re.search(self.absent, path):
            return None
        for pattern, replacement in self.renames:
            path = re.sub(pattern, replacement, path)
        return path

    def order(self, path: str, rank: int) -> tuple[int, ...]:
        """The order in which the axes of the variable at `path` stand there."""
        for pattern, axes in self.axes:
            if len(axes) == rank and re.search(pattern, path):
                return axes
        return tuple(range(rank))

    def from_layout(self, path: str, tensor: np.ndarray) -> np.ndarray:
        """Bring `tensor` from this layout into the axis order of our variable."""
        return np.transpose(tensor, np.argsort(self.order(path, tensor.ndim)))

    def to_layout(self, path: str, value: np.ndarray) -> np.ndarray:
        """Bring our variable's `value` into this layout; C-contiguous."""
        return np.ascontiguousarray(np.transpose(value, self.order(path, value.ndim)))


# PyTorch: linear (out, in), convolution (out, in, *kernel); ours ends in (in, out).
_TORCH_AXES = (
    (r"kernel$", (3, 2, 0, 1)),
    (r"kernel$", (2, 1, 0)),
    (r"kernel$", (1, 0)),
)

_TORCH_LEAVES = (
    (r"(kernel|gamma)$", "weight"),
    (r"beta$", "bias"),
    (r"/", "."),
)

_UNET_RENAMES = (
    (r"(down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers)_", r"\1."),
    (r"transformer_block/", "transformer_blocks.0/"),
    (r"to_out/", "to_out.0/"),
    (r"ff/proj_in/", "ff/net.0.proj/"),
    (r"ff/proj_out/", "ff/net.2/"),
)

MAKEAVID_TORCH = Layout(
    name="makeavid_torch",
    renames=(*_UNET_RENAMES, *_TORCH_LEAVES),
    axes=_TORCH_AXES,
)

_AUTOENCODER_RENAMES = (
    (r"mid_block/attention/", "mid_block/attentions_0/"),
    (r"downsamplers_0/", "downsamplers_0/conv/"),
    (r"(down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers)_", r"\1."),
)

DIFFUSERS_AUTOENCODER = Layout(
    name="diffusers_autoencoder",
    renames=(
        *_AUTOENCODER_RENAMES,
        (r"to_out/", "to_out.0/"),
        *_TORCH_LEAVES,
    ),
    axes=_TORCH_AXES,
)

# Files from before diffusers 0.15, such as Stable Diffusion 1.5's own.
DIFFUSERS_AUTOENCODER_OLD = Layout(
    name="diffusers_autoencoder_old",
    renames=(
        *_AUTOENCODER_RENAMES,
        (r"to_q/", "query/"),
        (r"to_k/", "key/"),
        (r"to_v/", "value/"),
        (r"to_out/", "proj_attn/"),
        *_TORCH_LEAVES,
    ),
    axes=_TORCH_AXES,
)

LAYOUTS = {
    layout.name: layout
    for layout in (MAKEAVID_TORCH, DIFFUSERS_AUTOENCODER, DIFFUSERS_AUTOENCODER_OLD)
}


def path_in_model(variable) -> str:
    """Path of a variable without the name of the model that holds it."""
    return variable.path.split("/", 1)[1]
