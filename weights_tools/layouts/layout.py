"""How a published layout names and orders the weights of one of our models."""

import functools
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from keras_makeavid.video.opencv import load_cv2

# Middle indices that are turned at a time, so that what is turned stays in the cache.
_BLOCK = 32

# Only the bytes matter; OpenCV does not know every dtype of theirs.
_KINDS = {2: np.uint16, 4: np.int32}


@dataclass(frozen=True, eq=False)
class Layout:
    """Names and axis orders of one kind of model in one checkpoint layout.

    An ordered list of substitutions turns the path of one of our variables into the
    tensor's name in the file. Reading and writing both follow from it.
    """

    name: str  # Such as `"diffusers"`.
    kind: str  # `"unet"`, `"vae"`, `"text_encoder"` or `"tiny_vae"`.
    container: str  # The file format that it is written in.
    # Pairs for `re.sub`, applied in order to a path without the model's own name.
    renames: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
    marker: str  # Path of the variable whose tensor identifies this layout in a file.
    # For patterns of paths, the order of our axes in the file.
    axes: Sequence[tuple[str, tuple[int, ...]]] = ()
    # And how many of them each there holds: `(1, 2)` merges two, 0 is one of size 1.
    groups: Sequence[tuple[str, tuple[int, ...]]] = ()
    roots: Sequence[str] = ("",)  # What names may have before them, the first written.
    beside: str | None = None  # Path of a variable whose tensor must be there, too.
    without: str | None = None  # And of one that tells that it is another layout.
    temporal: bool | str | None = None  # The one form of temporal parts that it holds.
    absent: str | None = None  # Pattern of paths that it does not hold.
    ignored: str | None = None  # Pattern of names in the file that are not weights.
    # Arguments that configurations omit, and further ones that others hard-code.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    assumed: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def _renames(self):
        return [(re.compile(pattern), by) for pattern, by in self.renames]

    def holds(self, path: str) -> bool:
        """Whether the layout has the variable at `path`."""
        return self.absent is None or not re.search(self.absent, path)

    def ignores(self, name: str) -> bool:
        """Whether the tensor of this name in the file is no weight."""
        return self.ignored is not None and bool(re.search(self.ignored, name))

    def names(self, tensors: Container[str], root: str) -> bool:
        """Whether a model of this layout is among tensors of these names."""
        there, gone = (self.marker, self.beside), self.without
        return all(
            path is None or self.tensor_name(path, root) in tensors for path in there
        ) and (gone is None or self.tensor_name(gone, root) not in tensors)

    def tensor_name(self, path: str, root: str | None = None) -> str:
        """Name in the file of the variable at `path`."""
        for pattern, replacement in self._renames:
            path = pattern.sub(replacement, path)
        return (self.roots[0] if root is None else root) + path

    def shape(self, path: str, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape in the file of the variable at `path`, which has `shape` in ours."""
        grouped = self._grouped(path, shape)
        return tuple(grouped[axis] for axis in self.order(path, len(grouped)))

    def from_layout(
        self, path: str, tensor: np.ndarray, shape: Sequence[int]
    ) -> np.ndarray:
        """Bring `tensor` from this layout to our variable's axes and `shape`."""
        order = self.order(path, tensor.ndim)
        return np.transpose(tensor, np.argsort(order)).reshape(shape)

    def to_layout(self, path: str, value: np.ndarray) -> np.ndarray:
        """Bring our variable's `value` into this layout; C-contiguous."""
        grouped = value.reshape(self._grouped(path, value.shape))
        order = self.order(path, grouped.ndim)
        # A transposed array would be written to a file as its memory lies.
        return contiguous(np.transpose(grouped, order))

    def order(self, path: str, rank: int) -> tuple[int, ...]:
        """Which of our axes (as grouped) each axis in the file is."""
        for pattern, axes in self.axes:
            if len(axes) == rank and re.search(pattern, path):
                return axes
        return tuple(range(rank))

    def _grouped(self, path, shape) -> tuple[int, ...]:
        for pattern, groups in self.groups:
            if sum(groups) == len(shape) and re.search(pattern, path):
                sizes = iter(shape)
                taken = ([next(sizes) for _ in range(n)] for n in groups)
                return tuple(int(np.prod(each, dtype=np.int64)) for each in taken)
        return tuple(shape)


# PyTorch: linear (out, in), convolution (out, in, *kernel); ours ends in (in, out).
TORCH_AXES = (
    (r"kernel$", (3, 2, 0, 1)),
    (r"kernel$", (2, 1, 0)),
    (r"kernel$", (1, 0)),
)

TORCH_LEAVES = (
    (r"(kernel|gamma|embeddings)$", "weight"),
    (r"beta$", "bias"),
    (r"/", "."),
)

# KerasHub keeps the heads as an axis of their own.
HEADS = (
    (r"(query|key|value)/kernel$", (1, 2)),
    (r"attention_output/kernel$", (2, 1)),
    (r"(query|key|value)/bias$", (2,)),
)

# The projections of an autoencoder's attention, where they are convolutions.
CONVOLVED_ATTENTION = ((r"attention/to_(q|k|v|out)/kernel$", (0, 0, 1, 1)),)

# Keras numbers the variables of a layer in the order in which it made them.
KERAS_LEAVES = ((r"(kernel|gamma|embeddings)$", "vars/0"), (r"(bias|beta)$", "vars/1"))


def keras_list(ours: str, attribute: str, layer: str) -> tuple[tuple[str, str], ...]:
    """Renames of a list of layers as Keras saves it: by class, 0 has no number."""
    return (
        (rf"{ours}_0/", f"{attribute}/{layer}/"),
        (rf"{ours}_(\d+)/", rf"{attribute}/{layer}_\1/"),
    )


def contiguous(array: np.ndarray) -> np.ndarray:
    """A C-contiguous array of the same values; the array itself if it is one.

    Where the axes lie the other way round, as those of kernels in PyTorch and Keras,
    OpenCV transposes by blocks, several times as fast as NumPy by elements.
    """
    if array.flags.c_contiguous:
        return array
    squeezed = array.squeeze()
    in_memory = np.argsort(squeezed.strides)[::-1]
    base = squeezed.transpose(in_memory)
    order = np.argsort(in_memory)
    # Axes that follow each other here and in memory are one.
    starts = [order[0], *(b for a, b in pairwise(order) if b != a + 1)]
    if (
        not base.flags.c_contiguous
        or array.itemsize not in _KINDS
        or len(starts) > 3
        or starts != sorted(starts, reverse=True)
        or (cv2 := _opencv()) is None
    ):
        return np.ascontiguousarray(array)
    sizes = np.multiply.reduceat(base.shape, starts[::-1])
    turned = _reversed(cv2, base.reshape(sizes).view(_KINDS[array.itemsize]))
    return turned.view(array.dtype).reshape(array.shape)


@functools.cache
def _opencv() -> Any:
    """OpenCV, or `None` where it cannot be loaded: NumPy gives the same, later."""
    try:
        return load_cv2()
    except ImportError:
        return None


def _reversed(cv2, base):
    """`(A, B)` to `(B, A)`, or `(A, B, C)` to `(C, B, A)`."""
    turned = np.empty(base.shape[::-1], base.dtype)
    if base.ndim == 2:
        cv2.transpose(base, dst=turned)
        return turned
    first, middle, last = base.shape
    for start in range(0, middle, _BLOCK):
        block = slice(start, start + _BLOCK)
        if last <= first:
            matrix = base[:, block].reshape(first, -1)
            columns = cv2.transpose(matrix).reshape(-1, last, first)
            turned[:, block] = columns.transpose(1, 0, 2)
        else:
            rows = base[:, block].transpose(1, 0, 2).reshape(-1, last)
            cv2.transpose(rows, dst=turned[:, block].reshape(last, -1))
    return turned
